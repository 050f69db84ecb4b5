"""What a verification found, and its renderings."""

from bridge.verify.report.model import (
    SCHEMA,
    DrawReport,
    InputReport,
    Report,
    SideReport,
    Timing,
)

__all__ = ["SCHEMA", "DrawReport", "InputReport", "Report", "SideReport", "Timing"]
