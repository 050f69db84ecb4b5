"""What a verification found, and its renderings."""

from bridge.verification.report.model import (
    SCHEMA,
    DrawReport,
    InputReport,
    Report,
    SideReport,
    Timing,
)

__all__ = ["SCHEMA", "DrawReport", "InputReport", "Report", "SideReport", "Timing"]
