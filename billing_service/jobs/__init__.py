"""What runs beside the web: RQ jobs, their calendar, and the two processes that carry them out.

A job is a wake-up; what is to be done stands in MongoDB, so that losing Redis loses time and nothing else.
"""
