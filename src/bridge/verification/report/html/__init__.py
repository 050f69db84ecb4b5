"""The report as one HTML page that needs nothing else: no network, no files, and scripts only to search."""

from bridge.verification.report.html.page import render, render_comparison, render_suite

__all__ = ["render", "render_comparison", "render_suite"]
