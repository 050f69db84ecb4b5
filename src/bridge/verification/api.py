"""Verify: run two versions of a model side by side, each in a process of its own, and judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bridge.errors import OutputError
from bridge.formats.request import ReadRequest
from bridge.verification.checks import Checks
from bridge.verification.keeping import opened
from bridge.verification.parties import Party, Version, resolve
from bridge.verification.report import Report
from bridge.verification.setting import Setting, narrowest
from bridge.verification.user_inputs import descriptions


def verify(
    source: Version,
    target: Version,
    checks: Checks | None = None,
    *,
    timeout: float | None = 600,
    trust: bool = False,
    model: str | None = None,
    custom_objects: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
    target_name: str | None = None,
    drop_in: bool = False,
    source_setting: Setting | None = None,
    target_setting: Setting | None = None,
) -> Report:
    """Hold `target` against `source`.

    Both are paths of any format that bridge reads, directories that `bridge convert` wrote, Python
    factories `pkg.mod:build`, or requests. `timeout` is in seconds for the whole verification, `threads`
    are those of each side. `trust`, `model` and `custom_objects` are as in a ReadRequest. `dtype`
    (`float16`, `bfloat16`) is what both compute in instead of their own. `target_name` is what the report
    calls the target, where its path is a temporary one. `drop_in`: the target is to have the source's
    very interface, names and layouts included. `source_setting` and `target_setting` say in which
    environment and on which device each computes.

    docs/verdict.md defines the verdict. Raises InputError where a version or the inputs cannot be used.
    A worker that dies or takes too long gives "could not be checked": never a pass.
    """
    checks = checks or Checks()
    if checks.repro is not None and checks.repro.exists():
        raise OutputError(
            "the directory for the reproduction exists already",
            hint="choose another one for --repro, or remove it",
            where=str(checks.repro),
        )
    specs = descriptions(checks.inputs)
    if isinstance(source, ReadRequest):
        specs = specs or list(source.inputs)
    reading: dict[str, Any] = {
        "trust": trust,
        "model": model,
        "custom_objects": custom_objects,
        "inputs": specs,
    }
    settings = (source_setting or Setting(), target_setting or Setting())
    with opened(
        settings[0].applied(
            _computing_in(resolve(source, as_target=False, **reading), dtype), on_progress=on_progress
        ),
        settings[1].applied(
            _computing_in(resolve(target, as_target=True, **reading), dtype), on_progress=on_progress
        ),
        threads=threads,
        timeout=timeout,
        target_name=target_name,
        drop_in=drop_in,
        on_progress=on_progress,
    ) as session:
        return session.verify(replace(checks, precision=narrowest(each.precision for each in settings)))


def _computing_in(party: Party, dtype: str | None) -> Party:
    return party if dtype is None else replace(party, request={**party.request, "dtype": dtype})
