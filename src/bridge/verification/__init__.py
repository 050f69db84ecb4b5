"""Proof that two versions of a model are equivalent; imports no framework."""

from bridge.verification.api import verify
from bridge.verification.checks import Checks
from bridge.verification.report import Report
from bridge.verification.session import Session

__all__ = ["Checks", "Report", "Session", "verify"]
