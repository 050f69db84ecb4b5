"""The Python API: `convert` and what it gives."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from bridge.errors import BridgeError, InputError, OutputError
from bridge.formats.artifacts import TARGETS, Artifact, Target, artifact
from bridge.formats.detect import locate
from bridge.formats.live import flat_inputs
from bridge.formats.output import atomic_output, check_output
from bridge.formats.request import InputSpec, ReadRequest
from bridge.settings import SettingArguments, side_setting
from bridge.verification.parties import FACTORY
from bridge.verification.setting import Setting
from bridge.verification.user_inputs import UserInputs, specifications
from bridge.worker.references import is_reference
from bridge.worker.tasks import run_task

if TYPE_CHECKING:
    from bridge.hub.metadata import SourceInfo
    from bridge.hub.weights import WeightMap
    from bridge.verification.parties import Party
    from bridge.verification.report.model import Report

Progress = Callable[[str], None]

_ENGINES = ("onnx2torch",)
"""Libraries that may convert instead of bridge's own lowerings."""


@dataclass
class Result:
    """A converted model.

    `directory` holds everything that was made (for PyTorch: model.py, model.safetensors, weights.json,
    anchors.json, model.pt2; for TensorFlow the same in a SavedModel; for ONNX the file). `output` is
    where the user asked for it, None if they did not. `report` is the verification, None if it was not
    asked for. `timings` are the seconds of each step, `peak_bytes` the largest resident memory of the
    workers that read and built, `notes` what the user should know.
    """

    to: Target
    directory: Path
    output: Path | None
    info: SourceInfo
    report: Report | None
    timings: Mapping[str, float]
    peak_bytes: Mapping[str, int]
    notes: tuple[str, ...]
    others: tuple[str, ...] = ()
    """The names of inputs and outputs that are no tensors: lists, and what may be None."""
    _temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @cached_property
    def source(self) -> str:
        """The generated Python source of the model."""
        return self._made("model.py").read_text(encoding="utf-8")

    @cached_property
    def weights(self) -> WeightMap:
        """For every tensor of the target, which source tensors it came from and how."""
        from bridge.hub.weights import WeightMap

        return WeightMap.load(self._made("weights.json"))

    @cached_property
    def model(self) -> Any:
        """The target framework's own object (`nn.Module`, `keras.Model`), with its weights, trainable.

        Imports the target framework into this process.
        """
        if self.to == "onnx":
            import onnx

            return onnx.load(str(self.directory / "model.onnx"))
        if self.runnable.suffix == ".pt2":
            import torch

            return torch.export.load(self.runnable).module()
        from bridge.emit.imported import load_emitted

        return load_emitted(self.directory)

    def run(self, *arrays: Any) -> list[Any]:
        """Run the converted model in a worker: numpy arrays in, numpy arrays out, in the source's order.

        Raises InputError for a model that takes or gives lists or None: run `model` itself.
        """
        if self.others:
            raise InputError(
                f"run takes and gives arrays, and these are lists or may be None: {', '.join(self.others)}",
                hint="call result.model, or the model that load() of model.py gives, with lists of tensors",
            )
        from bridge.verification.run import run_once

        return run_once(self.runnable, arrays, inputs=self.info.inputs, outputs=self.info.outputs)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the artifact that the suffix of `path` means; a directory takes everything.

        Raises OutputError if it exists and `force` is not given, InputError for an unknown suffix.
        """
        wanted = artifact(path, self.to)
        with atomic_output(wanted.path, force=force) as temporary:
            _take(self.directory, wanted, temporary)
        return wanted.path

    @property
    def runnable(self) -> Path:
        """What is run when the result is verified: the directory, the ONNX file, or onnx2torch's `.pt2`."""
        return _runnable(self.to, self.directory)

    def _made(self, name: str) -> Path:
        path = self.directory / name
        if not path.is_file():
            if self.to == "onnx":
                hint = "convert to torch or tf for source code"
            else:
                hint = "leave the engine out: bridge's own lowerings give source code and a weight map"
            raise BridgeError(f"this conversion to {self.to} has no {name}", hint=hint)
        return path


def convert(
    source: Any,
    to: str,
    inputs: UserInputs | Any = None,
    *,
    trust: bool = False,
    engine: str | None = None,
    io_layout: Literal["source", "native"] = "source",
    exact_training: bool = False,
    force: bool = False,
    output: str | Path | None = None,
    model: str | None = None,
    custom_objects: str | None = None,
    static_batch: bool = False,
    dynamic_axes: Mapping[str, str] | Sequence[str] | str | None = None,
    verify: bool = True,
    seed: int = 0,
    on_progress: Progress | None = None,
    **setting: Unpack[SettingArguments],
) -> Result:
    """Convert a model to the other framework, and verify it.

    `source` is an nn.Module, ExportedProgram, keras.Model, tf.Module, tf.function, onnx.ModelProto, or the
    path of a model in any format that bridge reads. `to` is `torch`, `tf` or `onnx`. `inputs` are example
    arrays (a tuple in order, a dict by name), the path of an `.npz`, or specifications such as
    `"1x3x224x224"`; an nn.Module needs them. `trust` allows code stored in the file to run.
    `io_layout="native"` gives the target's own layout at the boundary. `exact_training` keeps the source's
    tensors and rules of training where the target's own layers have others (docs/exact-training.md).
    `output` is where to write, its suffix chooses the artifact; without it the result lives until it is
    garbage collected, or until `Result.save`. `model` is a factory `pkg.mod:callable` for files that hold
    weights only, `custom_objects` a module to import first. `static_batch` keeps axis 0 of the inputs
    fixed, and with it the lengths of sequences. `dynamic_axes` says which axes of example inputs vary, by
    name or in order: `{"tokens": "NxT", "image": "Nx3x224x224"}`, a word for one that does and a number for
    one that does not. Without it the first axis does and, for a PyTorch module, those that are likely to be
    lengths and that the module leaves open (docs/dynamic-axes.md).

    `source_python` and `source_env` have the source read and verified by the framework of another
    environment; the other arguments of `bridge.settings.SettingArguments` say where each side computes.

    `engine="onnx2torch"` has that library convert an ONNX file, to `torch`; its result is a
    `model.pt2` without source and weight map. `on_progress` hears of every step.

    Raises BridgeError (and its subclasses) for what cannot be done; a result whose two versions differ
    is returned, with a `report` that says so.
    """
    if to not in TARGETS:
        raise InputError(f"to={to!r} is not a target", hint=f"choose one of {', '.join(TARGETS)}")
    target: Target = to
    _check_engine(engine, target, io_layout)
    say = on_progress or (lambda text: None)
    wanted = None if output is None else artifact(output, target)
    settings = (side_setting("source", setting), side_setting("target", setting))
    with tempfile.TemporaryDirectory(prefix="bridge-") as scratch:
        request, notes = _request(
            source,
            inputs,
            Path(scratch),
            trust=trust,
            model=model,
            custom_objects=custom_objects,
            static_batch=static_batch,
            axes=_axes(dynamic_axes, inputs),
            factories=bool(settings[0].environment),
        )
        if wanted is not None:
            check_output(wanted.path, force=force, source=request.path)
        if engine is not None and request.format != "onnx":
            raise InputError(
                f"the engine {engine} converts ONNX files only, and this is another format",
                hint="leave the engine out for bridge's own lowerings",
                where=request.path,
            )
        made = _Made(
            target, request, Path(scratch), io_layout, wanted, say, notes, engine, exact_training, settings
        )
        with made.staging(force=force) as directory:
            made.build(directory)
            if verify:
                made.verify(directory, flat_inputs(source, inputs), seed)
            return made.result(directory)


def verify(
    source: Any,
    target: Any,
    *,
    inputs: UserInputs | Any = None,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    shapes: Sequence[str] = (),
    map_inputs: str = "",
    map_outputs: str = "",
    gradients: bool = False,
    training: int = 0,
    dtype: Literal["float16", "bfloat16"] | None = None,
    localise: bool = True,
    repro: str | Path | None = None,
    depth: bool = False,
    speed: bool = False,
    speed_batches: Sequence[int] | None = None,
    speed_seconds: float | None = None,
    compiled: bool = False,
    max_slowdown: float | None = None,
    max_memory: str | float | None = None,
    timeout: float | None = 600,
    threads: int | None = None,
    trust: bool = False,
    model: str | None = None,
    custom_objects: str | None = None,
    on_progress: Progress | None = None,
    **setting: Unpack[SettingArguments],
) -> Report:
    """Run two versions of a model side by side and say whether they are equivalent.

    `source` and `target` are paths of any format that bridge reads, directories that bridge wrote, Python
    factories `pkg.mod:build`, a `Result`, or live objects as `convert` takes them (which are exported
    once; the report says so). Any two will do: bridge need not have made one from the other.

    `inputs` are arrays (a tuple in order, a dict by name), the path of an `.npz`, a generator
    `pkg.mod:function`, or specifications such as `"1x3x224x224"`; without arrays, or with specifications
    beside a file of them, inputs are drawn from the `seed`. `batches` are the sizes of a dynamic axis 0,
    `shapes` those of other dynamic axes (`"x=2x3x64x64"`). `map_inputs` and `map_outputs`
    (`"tokens=input_ids, image=x:0231"`) say which belong
    together where names and shapes do not. `gradients` compares those of inputs and parameters in
    float64, `training` is the number of training steps to compare. `dtype` is what both compute in
    instead of their own. Where the versions differ, `localise` names the first wrong node, and `repro` is
    a directory for a minimal reproduction. `depth` compares the values inside both versions, too. `timeout`
    is in seconds for everything but the speed, `threads` are those of each side. docs/verdict.md holds the
    rules of the verdict.

    `speed` measures the speed and memory of both, as docs/speed.md says, with `training` of a training step
    too: at the sizes `speed_batches` of a dynamic axis 0, for at most `speed_seconds` each, and if `compiled`
    also through the frameworks' compilers. `max_slowdown` (1.1: the target may take 1.1 times as long) and
    `max_memory` (1.2, or "2GiB") are limits that the target has to keep; they include `speed`.

    `source_python`, `source_env`, `device` and more say where each version computes
    (`bridge.settings.SettingArguments`, docs/environments.md and docs/devices.md).

    Raises InputError where a version or the inputs cannot be used, EnvironmentFailure where an environment
    or a device is not to be had. A worker that dies or hangs gives a report with the verdict "could not be
    checked".
    """
    from bridge.verification.api import verify as verify_files
    from bridge.verification.checks import Checks
    from bridge.verification.speed.settings import speed_settings

    with tempfile.TemporaryDirectory(prefix="bridge-") as scratch:
        return verify_files(
            _side(source, inputs, Path(scratch, "source")),
            _side(target, inputs, Path(scratch, "target")),
            Checks(
                inputs=flat_inputs(source, inputs),
                seed=seed,
                batches=batches,
                shapes=shapes,
                map_inputs=map_inputs,
                map_outputs=map_outputs,
                dtype=dtype,
                gradients=gradients,
                training=training,
                localise=localise,
                repro=None if repro is None else Path(repro),
                depth=depth,
                speed=speed_settings(
                    speed,
                    batches=speed_batches,
                    seconds=speed_seconds,
                    compiled=compiled,
                    max_slowdown=max_slowdown,
                    max_memory=max_memory,
                    training=bool(training),
                    seed=seed,
                ),
            ),
            timeout=timeout,
            threads=threads,
            dtype=dtype,
            trust=trust,
            model=model,
            custom_objects=custom_objects,
            on_progress=on_progress,
            source_setting=side_setting("source", setting),
            target_setting=side_setting("target", setting),
        )


def _runnable(target: Target, directory: Path) -> Path:
    """What a conversion made that can be run: the directory, unless it holds one file alone."""
    if target == "onnx":
        return directory / "model.onnx"
    return directory if (directory / "model.py").is_file() else directory / "model.pt2"


def _check_engine(engine: str | None, target: Target, io_layout: str) -> None:
    if engine is None:
        return
    if engine not in _ENGINES:
        raise InputError(
            f"engine={engine!r} is not known",
            hint=f"choose {', '.join(_ENGINES)}, or leave engine out for bridge's own lowerings",
        )
    if target != "torch":
        raise InputError(f"the engine {engine} converts to torch only", hint="leave the engine out")
    if io_layout != "source":
        raise InputError(
            f"the engine {engine} keeps the source's layout", hint="leave the engine or the layout out"
        )


def _side(version: Any, inputs: Any, directory: Path) -> str | Path | ReadRequest | Party:
    from bridge.formats.live import write_live
    from bridge.verification.parties import Party

    if isinstance(version, Result):
        return version.runnable
    if isinstance(version, str | Path | ReadRequest | Party):
        return version
    directory.mkdir()
    file = write_live(version, inputs, directory, static_batch=False)
    return ReadRequest(str(file.path), file.format, trust=True)


class _Made:
    """A conversion on its way: reading, building, verifying, each in workers of its own."""

    def __init__(
        self,
        target: Target,
        request: ReadRequest,
        scratch: Path,
        io_layout: str,
        wanted: Artifact | None,
        say: Progress,
        notes: tuple[str, ...],
        engine: str | None = None,
        exact_training: bool = False,
        settings: tuple[Setting, Setting] = (Setting(), Setting()),
    ) -> None:
        self._target = target
        self._settings = settings
        self._exact_training = exact_training
        self._request = request
        self._scratch = scratch
        self._io_layout = io_layout
        self._wanted = wanted
        self._say = say
        self._timings: dict[str, float] = {}
        self._peaks: dict[str, int] = {}
        self._notes = notes
        self._engine = engine
        self._info: dict[str, Any] = {}
        self._report: Report | None = None
        self._others: tuple[str, ...] = ()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @contextmanager
    def staging(self, *, force: bool) -> Iterator[Path]:
        """Where the result is made: beside the output, to be renamed, or in a directory of its own."""
        if self._wanted is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="bridge-result-")
            yield Path(self._temporary.name)
            return
        with atomic_output(self._wanted.path, force=force) as temporary:
            if self._wanted.kind == "directory":
                temporary.mkdir()
                yield temporary
            else:
                directory = self._scratch / "result"
                directory.mkdir()
                yield directory
                _take(directory, self._wanted, temporary)

    def build(self, directory: Path) -> None:
        hub_directory = self._scratch / "hub"
        hub_directory.mkdir()
        reading = run_task(
            "bridge.tasks:read",
            {"read": self._readable().to_json(), "out": str(hub_directory)},
            label="reader",
            on_progress=self._say,
        )
        hub = str(hub_directory / "hub.onnx")
        if self._engine is not None:
            built = run_task(
                "bridge.tasks:build_with_onnx2torch",
                {"read": self._request.to_json(), "hub": hub, "out": str(directory)},
                label="builder",
                on_progress=self._say,
            )
        elif self._target == "onnx":
            built = run_task(
                "bridge.tasks:build_onnx",
                {"hub": hub, "out": str(directory / "model.onnx")},
                label="builder",
                on_progress=self._say,
            )
        else:
            built = run_task(
                "bridge.tasks:build",
                {
                    "hub": hub,
                    "out": str(directory),
                    "target": self._target,
                    "io_layout": self._io_layout,
                    "exact_training": self._exact_training,
                    "artifact": self._artifact(),
                },
                label="builder",
                on_progress=self._say,
            )
        shutil.rmtree(hub_directory)
        self._timings = {
            "exporter": reading["exporter_seconds"],
            "read": reading["_stats"]["seconds"] - reading["exporter_seconds"],
            **built["timings"],
            "start the builder": built["_stats"]["seconds"] - sum(built["timings"].values()),
        }
        self._peaks = {"read": reading["_stats"]["peak_bytes"], "build": built["_stats"]["peak_bytes"]}
        self._info = built["info"]
        self._notes = (*self._notes, *built["info"]["notes"], *built["notes"])
        self._others = tuple(built.get("others", ()))

    def _readable(self) -> ReadRequest:
        """What the reader reads: the model itself, or what its own environment hands over."""
        python = self._settings[0].environment.interpreter(on_progress=self._say)
        if python is None:
            return self._request
        from bridge.handing_over import hand_over

        handed, notes = hand_over(self._request, python, self._scratch / "handed over", on_progress=self._say)
        self._notes = (*self._notes, *notes)
        return handed

    def _artifact(self) -> str:
        if self._target == "tf" or (self._wanted is not None and self._wanted.kind != "directory"):
            return "required"
        return "if_possible"

    def verify(self, directory: Path, inputs: Any, seed: int) -> None:
        from bridge.verification.api import verify
        from bridge.verification.checks import Checks

        if self._others:
            self._notes += (f"not verified: {', '.join(self._others)} are lists of tensors or may be None",)
            return
        started = time.perf_counter()
        self._report = verify(
            self._request,
            _runnable(self._target, directory),
            Checks(
                inputs=inputs if isinstance(inputs, str | Path) or _are_arrays(inputs) else None,
                draw=True,
                seed=seed,
            ),
            on_progress=self._say,
            target_name=None if self._wanted is None else str(self._wanted.path),
            drop_in=self._io_layout == "source",
            source_setting=self._settings[0],
            target_setting=self._settings[1],
        )
        self._timings["verify"] = time.perf_counter() - started

    def result(self, directory: Path) -> Result:
        from bridge.hub.metadata import SourceInfo

        output = None if self._wanted is None else self._wanted.path
        info: dict[str, Any] = {
            key: tuple(each) if isinstance(each, list) else each for key, each in self._info.items()
        }
        return Result(
            to=self._target,
            directory=directory if output is None else output,
            output=output,
            info=SourceInfo(**info),
            report=self._report,
            timings=self._timings,
            peak_bytes=self._peaks,
            notes=self._notes,
            others=self._others,
            _temporary=self._temporary,
        )


def _request(
    source: Any,
    inputs: Any,
    scratch: Path,
    *,
    trust: bool,
    model: str | None,
    custom_objects: str | None,
    static_batch: bool,
    axes: Sequence[InputSpec],
    factories: bool = False,
) -> tuple[ReadRequest, tuple[str, ...]]:
    """What to read: the file at a path, or the file that a live object is first written to."""
    from bridge.formats.live import LiveFile, write_live

    if factories and not isinstance(source, str | Path):
        raise InputError(
            "a live object is of this environment, and another one was asked for",
            hint="give the path of a file, or a factory pkg.mod:build that the other environment can import",
        )
    if factories and is_reference(str(source)):
        file = LiveFile(Path(source), FACTORY)
        trust = True
    elif isinstance(source, str | Path):
        location = locate(source)
        file = LiveFile(location.path, location.format)
    else:
        file = write_live(source, inputs, scratch, static_batch=static_batch, axes=axes)
        trust = True
    specs, examples = _specs(inputs)
    request = ReadRequest(
        path=str(file.path),
        format=file.format,
        model=model,
        inputs=tuple(axes) or specs,
        examples=examples,
        trust=trust,
        static_batch=static_batch,
        custom_objects=custom_objects,
    )
    return request, file.notes


def _axes(dynamic_axes: Mapping[str, str] | Sequence[str] | str | None, inputs: Any) -> tuple[InputSpec, ...]:
    """What the user says about the axes of example inputs, as specifications."""
    if dynamic_axes is None:
        return ()
    if inputs is None or _specs(inputs)[0]:
        raise InputError(
            "dynamic_axes describes example inputs, and there are none",
            hint='write the words into inputs instead: inputs="NxTx8"',
        )
    if isinstance(dynamic_axes, Mapping):
        return tuple(replace(InputSpec.parse(text), name=name) for name, text in dynamic_axes.items())
    texts = [dynamic_axes] if isinstance(dynamic_axes, str) else dynamic_axes
    return tuple(map(InputSpec.parse, texts))


def _specs(inputs: Any) -> tuple[tuple[InputSpec, ...], str | None]:
    if inputs is None or _are_arrays(inputs):
        return (), None
    if isinstance(inputs, Path) or (isinstance(inputs, str) and inputs.endswith((".npz", ".safetensors"))):
        return (), str(inputs)
    return tuple(specifications(inputs)), None


def _are_arrays(inputs: Any) -> bool:
    """Whether inputs are example arrays or tensors: one, a sequence of them, or a mapping by name."""
    if hasattr(inputs, "__array__"):
        return True
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    if isinstance(values, str) or not isinstance(values, Iterable):
        return False
    return all(hasattr(each, "__array__") for each in values)


def _take(directory: Path, wanted: Artifact, temporary: Path) -> None:
    """Copy or move what an artifact consists of from the result's directory to its place."""
    if wanted.kind == "directory":
        shutil.copytree(directory, temporary)
    elif wanted.kind == "pt2":
        shutil.copyfile(directory / "model.pt2", temporary)
    else:
        shutil.copyfile(directory / "model.onnx", temporary)
        data = directory / "model.onnx.data"
        if data.exists():
            raise OutputError(
                "the model is over 2 GB, and its weights need a file beside it", hint="choose a directory"
            )
