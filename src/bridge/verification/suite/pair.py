"""The verification of one pair of a suite, in a process of its own."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from bridge.worker import progress
from bridge.worker.launch import launching
from bridge.worker.pool import Client


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Verify `source` and `target` with `options`, and write the report to the file `report`.

    `pool` is the address of a pool to fork the workers from, None to start them afresh. Raises what
    `bridge.verify` raises.
    """
    from bridge.api import verify

    with nullcontext() if request["pool"] is None else launching(Client(request["pool"])):
        report = verify(
            request["source"], request["target"], **request["options"], on_progress=progress.report
        )
    report.to_json(request["report"])
    return {}
