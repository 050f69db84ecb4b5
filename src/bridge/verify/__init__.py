"""Proof that two versions of a model are equivalent; imports no framework."""

from bridge.verify.api import verify
from bridge.verify.report import Report

__all__ = ["Report", "verify"]
