"""How fast two versions of a model are, and how much memory and disk they take."""

from bridge.verification.speed.result import (
    Decision,
    Estimate,
    Gate,
    MemoryUse,
    Mode,
    Noise,
    Ratio,
    SideMemory,
    SideSpeed,
    SpeedResult,
    SpeedRow,
    SpeedSide,
    Threads,
    Variant,
)
from bridge.verification.speed.settings import SpeedSettings

__all__ = [
    "Decision",
    "Estimate",
    "Gate",
    "MemoryUse",
    "Mode",
    "Noise",
    "Ratio",
    "SideMemory",
    "SideSpeed",
    "SpeedResult",
    "SpeedRow",
    "SpeedSettings",
    "SpeedSide",
    "Threads",
    "Variant",
]
