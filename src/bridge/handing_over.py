"""Reading a model in the environment of its own framework: what that hands over, bridge's readers read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bridge.errors import EnvironmentFailure
from bridge.formats.request import ReadRequest
from bridge.verification.setting import legacy_loader
from bridge.worker.failures import TaskFailure, Unavailable
from bridge.worker.side import Side


def hand_over(
    request: ReadRequest,
    python: str,
    directory: Path,
    *,
    on_progress: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> tuple[ReadRequest, tuple[str, ...]]:
    """Have another interpreter load a model and write it into a new directory in a form that is read here.

    The answer is the request for that, and notes for the user. Raises what the loaders of
    `bridge.worker.legacy` raise, and EnvironmentFailure for an environment without the framework.
    """
    directory.mkdir()
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
    on_progress("loading the model in its own environment")
    try:
        with Side(label="reader", threads=threads, python=python, environment=environment) as side:
            side.description(side.submit_load(legacy_loader(request), request.to_json()))
            on_progress("handing the model over")
            found = side.handed_over(side.submit_hand_over(directory))
    except Unavailable as error:
        raise EnvironmentFailure(
            f"the environment cannot hand the model over: {error.reason}", where=python
        ) from error
    except TaskFailure as error:
        raise EnvironmentFailure(
            f"the environment of the source failed: {error.text}", hint=error.hint, where=python
        ) from error
    return replace(request, path=found.path, format=found.format, trust=True, model=None), found.notes
