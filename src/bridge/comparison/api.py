"""Compare one model in two frameworks: convert it if need be, verify, measure, and conclude."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from bridge.comparison.accuracy import assess, main_output
from bridge.comparison.conclude import conclude
from bridge.comparison.data import Data, read_data
from bridge.comparison.model import Accuracy, Comparison
from bridge.errors import BridgeError, InputError
from bridge.formats.request import ReadRequest
from bridge.settings import SettingArguments
from bridge.verification.checks import Checks
from bridge.verification.parties import resolve
from bridge.verification.report import Report
from bridge.verification.session import Session
from bridge.verification.user_inputs import specifications
from bridge.worker.references import is_reference

if TYPE_CHECKING:
    from bridge.api import Result

_TITLES = {"PyTorch": "PyTorch", "TensorFlow": "TensorFlow", "onnxruntime": "ONNX Runtime"}
_STEPS = 3
"""Training steps that are compared; timing them needs no more."""


def compare(
    source: Any,
    other: Any = None,
    *,
    data: str | Path | None = None,
    labels: str | None = None,
    inputs: Any = None,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    seconds: float | None = None,
    compiled: bool = False,
    training: bool = True,
    map_inputs: str = "",
    map_outputs: str = "",
    timeout: float | None = 1800,
    threads: int | None = None,
    trust: bool = False,
    model: str | None = None,
    custom_objects: str | None = None,
    on_progress: Callable[[str], None] | None = None,
    **setting: Unpack[SettingArguments],
) -> Comparison:
    """Hold the same model in two frameworks against each other: speed, memory, training and accuracy.

    `source` and `other` are what `bridge.verify` takes. Without `other`, `source` is converted to the
    other framework, an ONNX model to both. `data` is an `.npz` or `.safetensors` file with an array for each
    input and, if accuracy is wanted, one of labels (`labels` is its name; `labels`, `y` and the like are
    found). `batches`, `seconds` and `compiled` are those of `bridge.verify(speed=True)`, without
    the `speed_`; `training` times training steps too. The rest is as of `bridge.verify`.

    Raises InputError for a model or data that cannot be used, and what `bridge.convert` raises.
    """
    from bridge.api import verify

    started = time.monotonic()
    say = on_progress or (lambda text: None)
    read = None if data is None else read_data(data, labels)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-compare-")))
        reading: dict[str, Any] = {"trust": trust, "model": model, "custom_objects": custom_objects}
        title = source if isinstance(source, str | Path) else type(source).__qualname__
        made: list[Result] = []
        if other is None:
            first, second, made = _both(source, inputs, scratch, reading, say)
        else:
            first, second = (
                _version(each, inputs, scratch / str(position))
                for position, each in enumerate((source, other))
            )
        report = verify(
            first,
            second,
            inputs=inputs,
            seed=seed,
            map_inputs=map_inputs,
            map_outputs=map_outputs,
            speed=True,
            speed_batches=batches,
            speed_seconds=seconds,
            compiled=compiled,
            training=_STEPS if training else 0,
            timeout=timeout,
            threads=threads,
            on_progress=on_progress,
            **reading,
            **setting,
        )
        names = _names(report)
        report = _with_titles(report, made, original=str(title))
        accuracy, notes = None, tuple(note for each in made for note in each.notes)
        if read is not None:
            say("predicting the data")
            checks = Checks(map_inputs=map_inputs, map_outputs=map_outputs)
            try:
                accuracy = _accuracy(first, second, read, names, checks, reading, inputs, timeout, threads)
            except BridgeError as error:
                notes = (*notes, f"the data could not be predicted: {error.message}")
        return Comparison(
            model=str(title),
            first=names[0],
            second=names[1],
            made=tuple(_title(each.to) for each in made),
            report=report,
            accuracy=accuracy,
            conclusion=conclude(*names, report, accuracy),
            notes=notes,
            seconds=time.monotonic() - started,
        )


def _both(
    source: Any, inputs: Any, scratch: Path, reading: dict[str, Any], say: Callable[[str], None]
) -> tuple[Any, Any, list[Result]]:
    """The model as it is and converted to the other framework; an ONNX model converted to both."""
    from bridge.api import convert

    framework = _framework(source)
    targets = {"torch": ["tf"], "tf": ["torch"], "onnx": ["torch", "tf"]}[framework]
    made = []
    for target in targets:
        say(f"converting to {_title(target)}")
        made.append(convert(source, to=target, inputs=inputs, verify=False, on_progress=say, **reading))
    if len(made) == 2:
        return made[0].runnable, made[1].runnable, made
    return _version(source, inputs, scratch / "source"), made[0].runnable, made


def _framework(source: Any) -> str:
    from bridge.formats.detect import locate

    if isinstance(source, str | Path):
        if isinstance(source, str) and is_reference(source):
            raise InputError(
                "a Python factory cannot be converted by its name",
                hint="give both versions, or the file of one: bridge compare model.pt2",
                where=source,
            )
        return locate(source).framework
    roots = {each.__module__.partition(".")[0] for each in type(source).__mro__}
    for root, framework in (("torch", "torch"), ("keras", "tf"), ("tensorflow", "tf"), ("onnx", "onnx")):
        if root in roots:
            return framework
    raise InputError(
        f"{type(source).__qualname__} is no model", hint="give a module, a Keras model or a path"
    )


def _version(version: Any, inputs: Any, directory: Path) -> Any:
    """A version as a path or request: a live object is exported once."""
    from bridge.api import Result
    from bridge.formats.live import write_live

    if isinstance(version, Result):
        return version.runnable
    if isinstance(version, str | Path):
        return version
    directory.mkdir()
    file = write_live(version, inputs, directory, static_batch=False)
    return ReadRequest(str(file.path), file.format, trust=True)


def _names(report: Report) -> tuple[str, str]:
    """What to call both sides: their frameworks, or what tells them apart."""
    found = [
        next((title for word, title in _TITLES.items() if word in side.what), side.path)
        for side in (report.source, report.target)
    ]
    if found[0] == found[1]:
        return f"{found[0]} (first)", f"{found[1]} (second)"
    return found[0], found[1]


def _with_titles(report: Report, made: Sequence[Result], *, original: str) -> Report:
    """The report with what bridge converted named as such: it lies in a directory that is about to vanish."""
    if not made:
        return report
    titles = [f"{original}, converted to {_title(each.to)}" for each in made]
    source = replace(report.source, path=titles[0] if len(titles) == 2 else original)
    return replace(report, source=source, target=replace(report.target, path=titles[-1]))


def _title(target: str) -> str:
    return {"torch": "PyTorch", "tf": "TensorFlow"}.get(target, target)


def _accuracy(
    first: Any,
    second: Any,
    data: Data,
    names: tuple[str, str],
    checks: Checks,
    reading: dict[str, Any],
    inputs: Any,
    timeout: float | None,
    threads: int | None,
) -> Accuracy:
    specs = [] if inputs is None else specifications(inputs)
    with Session(
        resolve(first, as_target=False, inputs=specs, **reading),
        resolve(second, as_target=True, inputs=specs, **reading),
        timeout=timeout,
        threads=threads,
    ) as session:
        ran = session.predict(data.chunks, checks)
        described = session.output_names
    ours = [np.concatenate(each) for each in zip(*(source for source, _ in ran), strict=True)]
    theirs = [np.concatenate(each) for each in zip(*(target for _, target in ran), strict=True)]
    position = main_output(ours, data.labels)
    name = described[position] if described is not None else f"output {position}"
    return assess(names, name, ours[position], theirs[position], data.labels)
