"""What bridge finds on this machine: versions, devices, plug-ins, and what is wrong with them."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires, version
from typing import Any

from bridge.environments.cache import cached
from bridge.errors import BridgeError
from bridge.plugins import PLUGIN_GROUP

_DISTRIBUTION = "bridge-ml"
_CORE = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "safetensors", "ml_dtypes")
_FRAMEWORKS = {"torch": ("torch",), "tf": ("tensorflow", "keras", "tf2onnx")}


@dataclass(frozen=True)
class PackageState:
    """An installed or missing package, and why its version is wrong if it is."""

    name: str
    version: str | None
    extra: str | None
    problem: str | None = None


@dataclass(frozen=True)
class FrameworkState:
    """What a framework says about this machine when it is imported; `problem` if it cannot be."""

    name: str
    devices: tuple[str, ...]
    problem: str | None = None


@dataclass(frozen=True)
class PluginState:
    """A plug-in: its name, the package that brings it, what it loads, and why it does not if it does not."""

    name: str
    package: str
    target: str
    problem: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `bridge doctor` reports."""

    bridge: str
    python: str
    system: str
    cores: int
    packages: tuple[PackageState, ...]
    frameworks: tuple[FrameworkState, ...]
    plugins: tuple[PluginState, ...]
    environments: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is installed and does not work, in words."""
        parts: tuple[PackageState | FrameworkState | PluginState, ...]
        parts = (*self.packages, *self.frameworks, *self.plugins)
        return tuple(f"{part.name}: {part.problem}" for part in parts if part.problem is not None)

    @property
    def healthy(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON values."""
        return {**asdict(self), "problems": list(self.problems)}

    def summary(self) -> str:
        """The findings as text."""
        return "\n".join(_lines(self))


def diagnose(*, on_progress: Callable[[str], None] | None = None) -> Diagnosis:
    """Look at what is installed. Frameworks and plug-ins are imported in processes of their own."""
    say = on_progress or (lambda text: None)
    return Diagnosis(
        bridge=version(_DISTRIBUTION),
        python=f"{platform.python_version()} ({sys.executable})",
        system=platform.platform(),
        cores=os.cpu_count() or 1,
        packages=tuple(_packages()),
        frameworks=tuple(_framework(name, say) for name in _FRAMEWORKS if _installed(_FRAMEWORKS[name][0])),
        plugins=tuple(_plugin(entry, say) for entry in sorted(entry_points(group=PLUGIN_GROUP))),
        environments=tuple(each.summary for each in cached()),
    )


def _packages() -> Iterator[PackageState]:
    wanted = _wanted_versions()
    for extra, names in ((None, _CORE), *_FRAMEWORKS.items()):
        for name in names:
            found = _installed(name)
            problem = None
            if found is None and extra is None:
                problem = "missing"
            elif found is not None:
                problem = _version_problem(found, wanted.get(_canonical(name), ""))
            yield PackageState(name, found, extra, problem)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _wanted_versions() -> dict[str, str]:
    """The version specifiers of bridge's own metadata, by package."""
    wanted = {}
    for line in requires(_DISTRIBUTION) or ():
        requirement = line.partition(";")[0].strip()
        end = next((at for at, char in enumerate(requirement) if char in "<>=!~ ["), len(requirement))
        if "[" not in requirement:
            wanted[_canonical(requirement[:end])] = requirement[end:].strip()
    return wanted


def _version_problem(found: str, specifier: str) -> str | None:
    """Why a version is outside a specifier of the forms `>=1.2` and `<1.3`; other forms are not judged."""
    for part in specifier.split(","):
        operator, bound = (">=", part[2:]) if part.startswith(">=") else ("<", part.removeprefix("<"))
        if not part.startswith((">=", "<")) or part.startswith("<="):
            continue
        inside = _numbers(found) >= _numbers(bound) if operator == ">=" else _numbers(found) < _numbers(bound)
        if not inside:
            return f"version {found} is installed, and bridge needs {specifier}"
    return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("+")[0].split(".") if part.isdigit())


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _framework(name: str, say: Callable[[str], None]) -> FrameworkState:
    from bridge.worker.tasks import run_task

    say(f"asking {_FRAMEWORKS[name][0]} for its devices")
    try:
        answer = run_task(f"bridge.doctor:{name}_devices", {}, label=f"{name} probe")
    except BridgeError as error:
        return FrameworkState(_FRAMEWORKS[name][0], (), error.message)
    return FrameworkState(_FRAMEWORKS[name][0], tuple(answer["devices"]))


def torch_devices(_: dict[str, Any]) -> dict[str, Any]:
    """The task of a worker: PyTorch's devices, in words."""
    import torch

    devices = [f"CPU ({torch.get_num_threads()} threads)"]
    devices += [f"CUDA {torch.cuda.get_device_name(each)}" for each in range(torch.cuda.device_count())]
    return {"devices": devices}


def tf_devices(_: dict[str, Any]) -> dict[str, Any]:
    """The task of a worker: TensorFlow's devices, in words."""
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise BridgeError(f"Keras runs on {keras.backend.backend()}", hint="set KERAS_BACKEND=tensorflow")
    devices = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        devices.append(" ".join([device.device_type, str(details.get("device_name", ""))]).strip())
    return {"devices": devices}


def _plugin(entry: EntryPoint, say: Callable[[str], None]) -> PluginState:
    from bridge.worker.tasks import run_task

    package = entry.dist.name if entry.dist is not None else "?"
    say(f"loading the plug-in {entry.name}")
    try:
        run_task("bridge.doctor:load_plugin", {"value": entry.value}, label=f"plug-in {entry.name}")
    except BridgeError as error:
        return PluginState(entry.name, package, entry.value, error.message)
    return PluginState(entry.name, package, entry.value)


def load_plugin(request: dict[str, Any]) -> dict[str, Any]:
    """The task of a worker: import what the entry point `value` names; raises whatever that raises."""
    module, _, attributes = str(request["value"]).partition(":")
    loaded = importlib.import_module(module.strip())
    for attribute in filter(None, attributes.split(".")):
        loaded = getattr(loaded, attribute)
    return {}


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"bridge {found.bridge}, Python {found.python}"
    yield f"{found.system}, {found.cores} cores"
    yield "packages:"
    for package in found.packages:
        state = package.version
        if state is None:
            state = (
                f"not installed (pip install '{_DISTRIBUTION}[{package.extra}]')"
                if package.extra
                else "missing"
            )
        yield f"  {package.name} {state}"
    yield "devices:"
    for framework in found.frameworks:
        yield f"  {framework.name}: {', '.join(framework.devices) or 'could not be asked'}"
    if not found.frameworks:
        yield "  no framework is installed"
    yield "plug-ins:"
    for plugin in found.plugins:
        yield f"  {plugin.name} ({plugin.package}): {plugin.target}"
    if not found.plugins:
        yield f"  none (entry point group {PLUGIN_GROUP})"
    yield "cached environments:"
    yield from (f"  {each}" for each in found.environments or ("none",))
    if found.problems:
        yield "problems:"
        yield from (f"  {problem}" for problem in found.problems)
    else:
        yield "no problems found"
