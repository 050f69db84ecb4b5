"""Proof that two versions of a model are equivalent; imports no framework."""

from bridge.verification.api import verify
from bridge.verification.report import Report

__all__ = ["Report", "verify"]
