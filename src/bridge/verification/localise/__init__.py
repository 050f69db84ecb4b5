"""Localisation: which node of the target is the first that is wrong, and where it is written."""

from bridge.verification.localise.locate import Case, Evidence, locate_fault, locate_gradient_fault
from bridge.verification.localise.repro import write_reproduction
from bridge.verification.localise.result import Localisation, Place

__all__ = [
    "Case",
    "Evidence",
    "Localisation",
    "Place",
    "locate_fault",
    "locate_gradient_fault",
    "write_reproduction",
]
