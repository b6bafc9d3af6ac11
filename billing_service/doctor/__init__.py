"""Is an installation set up as it should be? One function for each part, one row for each in a table; all only read."""

from .configuration import refused
from .examination import CHECKS, Check, examine
from .findings import ERROR, OK, WARNING, Finding, Report
from .problems import PROBLEMS

__all__ = ["CHECKS", "ERROR", "OK", "PROBLEMS", "WARNING", "Check", "Finding", "Report", "examine", "refused"]
