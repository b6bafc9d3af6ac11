"""`python -m billing_service.cli`."""

from . import main

main()
