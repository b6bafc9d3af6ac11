"""Is the installation well? Figures for metrics, and conditions whose beginning and end people are told of."""

from .alerts import check
from .conditions import CONDITIONS, Watch
from .figures import describe

__all__ = ["CONDITIONS", "Watch", "check", "describe"]
