"""A comparison as text for a terminal."""

from __future__ import annotations

import textwrap

from bridge.comparison.model import Comparison
from bridge.comparison.table import rows

_WIDTH = 110


def render(found: Comparison) -> str:
    """The answer, the table, and what else the reader should know."""
    lines = textwrap.wrap(found.conclusion.sentence, _WIDTH)
    lines.append("")
    table = [
        ("", found.first, found.second, "ahead"),
        *((r.what, r.first, r.second, r.ahead) for r in rows(found)),
    ]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    for what, first, second, ahead in table:
        line = f"{what:<{widths[0]}}  {first:>{widths[1]}}  {second:>{widths[2]}}  {ahead}"
        lines.append(line.rstrip())
    lines.append("")
    for point in found.conclusion.points:
        lines += textwrap.wrap(point, _WIDTH, initial_indent="- ", subsequent_indent="  ")
    lines += [
        f"verdict: {found.report.verdict}",
        f"{found.first}: {found.report.source.path} ({found.report.source.what})",
        f"{found.second}: {found.report.target.path} ({found.report.target.what})",
    ]
    lines += [f"note: {each}" for each in (*found.notes, *found.report.notes)]
    return "\n".join(lines)
