"""Devices, with stand-ins for frameworks that see GPUs: there need not be one here."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.errors import EnvironmentFailure
from bridge.worker import device


class Torch(SimpleNamespace):
    """PyTorch on a machine with some GPUs."""

    def __init__(self, gpus: int, *, built: str | None = "12.6") -> None:
        backends = SimpleNamespace(
            cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=None)),
            cudnn=SimpleNamespace(allow_tf32=None, benchmark=True, deterministic=False),
        )
        super().__init__(
            cuda=SimpleNamespace(is_available=lambda: gpus > 0, device_count=lambda: gpus),
            version=SimpleNamespace(cuda=built),
            backends=backends,
            device=lambda *given: given,
            asked=[],
        )
        self.use_deterministic_algorithms = lambda mode, warn_only: self.asked.append((mode, warn_only))
        self.autocast = lambda kind, dtype: self.asked.append((kind, dtype)) or nullcontext()
        self.bfloat16 = "torch.bfloat16"


class Config:
    """`tf.config` on a machine with some GPUs."""

    def __init__(self, gpus: int) -> None:
        self.gpus = [f"GPU:{index}" for index in range(gpus)]
        self.called: list[Any] = []
        self.experimental = SimpleNamespace(
            enable_tensor_float_32_execution=lambda on: self.called.append(("tf32", on)),
            set_memory_growth=lambda gpu, on: self.called.append((gpu, on)),
            enable_op_determinism=lambda: self.called.append("determinism"),
        )

    def list_physical_devices(self, kind: str) -> list[str]:
        assert kind == "GPU"
        return self.gpus


class TensorFlow:
    """TensorFlow on a machine with some GPUs."""

    def __init__(self, gpus: int) -> None:
        self.config = Config(gpus)
        self.keras = SimpleNamespace(utils=SimpleNamespace(set_random_seed=lambda seed: None))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tell this process where to compute, as the parent of a worker does."""

    def tell(name: str, **options: Any) -> None:
        for key, value in device.variables(name, **options).items():
            monkeypatch.setenv(key, value)

    return tell


def test_a_plain_worker_is_told_nothing() -> None:
    assert device.variables("cpu") == {}
    assert device.name() == "cpu"
    assert device.is_cpu()
    assert device.words() == ""
    assert device.autocast() is None


def test_pytorch_on_a_gpu_computes_in_float32(told: Any) -> None:
    told("cuda:1")
    torch = Torch(2)
    assert device.torch_device(torch) == ("cuda", 1)
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is False
    assert device.words() == " on cuda:1"
    assert torch.asked == []


def test_tf32_is_on_where_it_is_allowed(told: Any) -> None:
    told("cuda", allow_tf32=True)
    torch = Torch(1)
    assert device.torch_device(torch) == ("cuda", 0)
    assert torch.backends.cuda.matmul.allow_tf32 is True
    assert torch.backends.cudnn.allow_tf32 is True
    assert device.words() == " on cuda with TF32"


def test_deterministic_algorithms(told: Any) -> None:
    told("cuda", deterministic=True)
    torch = Torch(1)
    device.torch_device(torch)
    assert torch.asked == [(True, False)]
    assert torch.backends.cudnn.deterministic is True
    assert torch.backends.cudnn.benchmark is False
    assert device.variables("cuda", deterministic=True)["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    tf = TensorFlow(1)
    device.tensorflow_device(tf)
    assert "determinism" in tf.config.called


def test_autocast_is_entered(told: Any) -> None:
    told("cuda", autocast="bfloat16")
    torch = Torch(1)
    with device.torch_precision(torch):
        pass
    assert torch.asked == [("cuda", "torch.bfloat16")]
    assert device.words() == " on cuda with autocast to bfloat16"


@pytest.mark.parametrize(
    ("gpus", "built", "says"),
    [
        (0, "12.6", "PyTorch sees no GPU here, and cuda:1 was asked for"),
        (0, None, "for the CPU only"),
        (1, "12.6", "PyTorch sees 1 GPU here"),
    ],
)
def test_pytorch_without_the_gpu_says_so(told: Any, gpus: int, built: str | None, says: str) -> None:
    told("cuda:1")
    with pytest.raises(EnvironmentFailure, match=says) as caught:
        device.torch_device(Torch(gpus, built=built))
    assert caught.value.exit_code == 3
    assert caught.value.hint is not None
    assert "nvidia-smi" in caught.value.hint


def test_tensorflow_on_a_gpu(told: Any) -> None:
    told("cuda:1")
    tf = TensorFlow(2)
    assert device.tensorflow_device(tf) == "/GPU:1"
    assert tf.config.called == [("tf32", False), ("GPU:0", True), ("GPU:1", True)]
    assert device.tensorflow_device(tf) == "/GPU:1"
    assert len(tf.config.called) == 3, "it can be set up only once"
    with pytest.raises(EnvironmentFailure, match="TensorFlow sees no GPU"):
        device.tensorflow_device(TensorFlow(0))


def test_tensorflow_has_no_autocast(told: Any) -> None:
    told("cpu", autocast="bfloat16")
    with pytest.raises(EnvironmentFailure, match="no autocast"):
        device.tensorflow_device(TensorFlow(0))


def test_onnxruntime_falls_back_to_nothing(told: Any) -> None:
    runtime = SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert device.onnx_providers(runtime) == ["CPUExecutionProvider"]
    told("cuda:1")
    (cuda, options), rest = device.onnx_providers(runtime)
    assert (cuda, rest) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == {"device_id": "1", "use_tf32": "0"}
    with pytest.raises(EnvironmentFailure, match="onnxruntime-gpu"):
        device.onnx_providers(SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"]))
    fallen_back = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    with pytest.raises(EnvironmentFailure, match="could not be loaded"):
        device.check_onnx_session(fallen_back)
