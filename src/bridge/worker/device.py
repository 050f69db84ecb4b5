"""Where a worker computes, told to its process by environment variables.

This module also runs in an old environment.

Only `run` and what is timed compute there: references in float64, gradients and everything that looks inside
a model stay on the CPU.
"""

from __future__ import annotations

import functools
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bridge.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEVICE = "BRIDGE_DEVICE"
_TF32 = "BRIDGE_ALLOW_TF32"
_AUTOCAST = "BRIDGE_AUTOCAST"
_DETERMINISTIC = "BRIDGE_DETERMINISTIC"


def variables(
    device: str, *, allow_tf32: bool = False, autocast: str | None = None, deterministic: bool = False
) -> dict[str, str]:
    """The environment of a worker that is to compute so; empty for a plain one on the CPU."""
    found = {}
    if device != "cpu":
        found[_DEVICE] = device
    if allow_tf32:
        found[_TF32] = "1"
    if autocast is not None:
        found[_AUTOCAST] = autocast
    if deterministic:
        # cuBLAS reads its variable when it starts: with a workspace of fixed size it adds in one order.
        found.update({_DETERMINISTIC: "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TF_DETERMINISTIC_OPS": "1"})
    return found


def name() -> str:
    """The device of this worker: `cpu`, `cuda`, `cuda:1`."""
    return os.environ.get(_DEVICE, "cpu")


def is_cpu() -> bool:
    return name() == "cpu"


def index() -> int:
    """Which GPU; the first where the name does not say."""
    return int(name().partition(":")[2] or 0)


def allows_tf32() -> bool:
    return os.environ.get(_TF32) == "1"


def autocast() -> str | None:
    """The type that PyTorch's autocast may choose, None without it."""
    return os.environ.get(_AUTOCAST)


def deterministic() -> bool:
    return os.environ.get(_DETERMINISTIC) == "1"


def words() -> str:
    """What a report says after the versions; empty for a plain run on the CPU."""
    said = [] if is_cpu() else [f" on {name()}"]
    if not is_cpu() and allows_tf32():
        said.append(" with TF32")
    if autocast() is not None:
        said.append(f" with autocast to {autocast()}")
    return "".join(said)


def no_device(framework: str, found: int, why: str = "") -> EnvironmentFailure:
    """The refusal where a framework does not have the device that was asked for."""
    there = "no GPU" if not found else "{} GPU{}".format(found, "" if found == 1 else "s")
    return EnvironmentFailure(
        f"{framework} sees {there} here, and {name()} was asked for{why}",
        hint="leave out --device (or choose cpu), or run on a machine with a GPU, its driver, and a build of "
        f"{framework} for CUDA; nvidia-smi lists what there is",
    )


def torch_device(torch: Any) -> Any:
    """PyTorch's device for this worker, set up: TF32 off unless allowed, determinism as asked.

    Raises EnvironmentFailure where there is none.
    """
    if deterministic():
        torch.use_deterministic_algorithms(True, warn_only=False)
    if is_cpu():
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index() >= count:
        built = getattr(torch.version, "cuda", None)
        raise no_device("PyTorch", count, "" if built else " (this build of it is for the CPU only)")
    torch.backends.cuda.matmul.allow_tf32 = allows_tf32()
    torch.backends.cudnn.allow_tf32 = allows_tf32()
    if deterministic():
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return torch.device("cuda", index())


@contextmanager
def torch_precision(torch: Any) -> Iterator[None]:
    """Compute with autocast, if that was asked for."""
    kind = autocast()
    if kind is None:
        yield
        return
    with torch.autocast("cpu" if is_cpu() else "cuda", dtype=getattr(torch, kind)):
        yield


@functools.lru_cache(maxsize=None)
def tensorflow_device(tf: Any) -> str:
    """TensorFlow's name of this worker's device, set up: TF32 off unless allowed, determinism as asked.

    To be called before TensorFlow computes anything. Raises EnvironmentFailure where there is no such device,
    and for autocast, which TensorFlow has not.
    """
    if autocast() is not None:
        raise EnvironmentFailure(
            "TensorFlow has no autocast: a Keras model computes in the types of its layers' policies",
            hint="compare in one type with --dtype, or build the model with a mixed_bfloat16 policy",
        )
    if deterministic():
        tf.keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
    if is_cpu():
        return "/CPU:0"
    found = tf.config.list_physical_devices("GPU")
    if index() >= len(found):
        raise no_device("TensorFlow", len(found))
    tf.config.experimental.enable_tensor_float_32_execution(allows_tf32())
    for each in found:
        # Otherwise the first side takes all memory of the GPU from the other.
        tf.config.experimental.set_memory_growth(each, True)
    return f"/GPU:{index()}"


def onnx_providers(onnxruntime: Any) -> list[Any]:
    """onnxruntime's execution providers for this worker.

    Raises EnvironmentFailure where the installed onnxruntime has no CUDA provider, and for autocast.
    """
    if autocast() is not None:
        raise EnvironmentFailure(
            "onnxruntime has no autocast: an ONNX model computes in the types that it says",
            hint="leave out --autocast",
        )
    if is_cpu():
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise no_device("onnxruntime", 0, " (the package onnxruntime-gpu has CUDA, onnxruntime has not)")
    options = {"device_id": str(index()), "use_tf32": "1" if allows_tf32() else "0"}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def check_onnx_session(session: Any) -> None:
    """Raise EnvironmentFailure where onnxruntime fell back to the CPU, which it does with a log line only."""
    if not is_cpu() and "CUDAExecutionProvider" not in session.get_providers():
        raise no_device("onnxruntime", 0, " (its CUDA provider could not be loaded)")
