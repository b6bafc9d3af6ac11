"""What `make run` and the tests add to the service: MongoDB, Redis, a Stripe sandbox, demo data.

The service itself never imports this room; the command line does, when asked to.
"""
