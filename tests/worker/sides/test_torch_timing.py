"""What is timed of PyTorch models; accelerators and compilers are stood in for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bridge.worker.sides import torch_timing
from bridge.worker.sides.torch_module import TorchModuleSide
from bridge.worker.sides.torch_timing import TorchTiming, time_torch
from tests.worker.sides.torch_nets import ConvNet, conv_net, image_feeds, saved_side


class Watched(nn.Module):
    """Tells in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return self.norm(self.fc(x))


def _state(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: each.numpy().copy() for name, each in module.state_dict().items()}


def test_inference_runs_without_gradients_on_the_tensors_given() -> None:
    module = Watched().eval()
    timing = time_torch(module, [torch.ones(4, 3)], {}, training=False, compiled=False)
    timing.call()
    timing.call()
    assert module.seen == [(False, False)] * 2
    assert timing.device == "cpu"
    assert timing.device_seconds() is None
    assert timing.device_peak_bytes() is None
    assert timing.threads() == [torch.get_num_threads(), 1]
    timing.close()


def test_a_training_step_changes_no_weight_and_the_mode_is_as_before_afterwards() -> None:
    module = Watched().eval()
    before = _state(module)
    timing = time_torch(module, [torch.randn(4, 3)], {}, training=True, compiled=False)
    timing.call()
    timing.call()
    assert module.seen == [(True, True)] * 2
    assert all(each.grad is not None for each in module.parameters())
    after = _state(module)
    for name, _ in module.named_parameters():
        np.testing.assert_array_equal(before[name], after[name])
    assert not np.array_equal(before["norm.running_mean"], after["norm.running_mean"])
    timing.close()
    assert not module.training
    assert all(each.grad is None for each in module.parameters())


def test_what_cannot_be_trained_is_refused() -> None:
    frozen = nn.Linear(3, 2).requires_grad_(False)
    with pytest.raises(NotImplementedError, match="no parameters"):
        time_torch(frozen, [torch.ones(1, 3)], {}, training=True, compiled=False)
    with pytest.raises(NotImplementedError, match="no training step"):
        time_torch(lambda x: x, [torch.ones(1, 3)], {}, training=True, compiled=False)

    class Best(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).argmax(-1)

    timing = time_torch(Best(3, 2), [torch.ones(1, 3)], {}, training=True, compiled=False)
    with pytest.raises(NotImplementedError, match="no loss"):
        timing.call()


def test_an_exported_program_is_trained_in_inference_mode(tmp_path: Path) -> None:
    side = saved_side(conv_net(), image_feeds(), tmp_path / "model.pt2")
    timing = side.timing(image_feeds(), True, False)
    timing.call()
    assert timing.notes == [
        "the exported program has no training mode: its steps are timed in inference mode"
    ]
    timing.close()
    inference = side.timing(image_feeds(), False, False)
    inference.call()
    assert inference.notes == []


def test_a_module_is_timed_itself_with_arguments_by_name() -> None:
    module = conv_net()
    side = TorchModuleSide(module)
    called: list[Any] = []
    module.register_forward_hook(lambda *given: called.append(given))
    timing = side.timing(image_feeds(), False, False)
    timing.call()
    assert len(called) == 1
    assert isinstance(called[0][0], ConvNet)


def test_the_compiler_gets_the_model_of_a_step_and_of_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    calls: list[str] = []

    def compile(model: Callable[..., Any]) -> Callable[..., Any]:
        compiled.append(model)

        def call(*args: Any) -> Any:
            calls.append("compiled")
            return model(*args)

        return call

    monkeypatch.setattr(torch, "compile", compile)
    module = Watched().eval()
    for training in (False, True):
        timing = time_torch(module, [torch.randn(4, 3)], {}, training=training, compiled=True)
        assert timing.timed.endswith("through torch.compile")
        timing.call()
        timing.close()
    assert compiled == [module, module]
    assert calls == ["compiled", "compiled"]


def test_threads_are_those_that_the_worker_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "get_num_interop_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: asked.append(("within", count)))
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: asked.append(("between", count)))
    torch_timing.set_threads()
    assert asked == [("within", 3), ("between", 1)]


def test_a_worker_with_autocast_is_timed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_AUTOCAST", "bfloat16")
    seen: list[torch.dtype] = []

    class Looking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result = super().forward(x)
            seen.append(result.dtype)
            return result

    for training in (False, True):
        time_torch(Looking(3, 2), [torch.ones(1, 3)], {}, training=training, compiled=False).call()
    assert seen == [torch.bfloat16] * 2


class _Event:
    """An event on a stream that only counts what happened before it."""

    log: list[str]

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self) -> None:
        self.log.append("event")
        self.at = float(len(self.log))

    def elapsed_time(self, end: _Event) -> float:
        assert self.log[-1] == "synchronize"
        return 1000 * (end.at - self.at)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A GPU that does nothing; what was asked of it."""
    log: list[str] = []
    _Event.log = log
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 12345)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: log.append("empty"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Imaginary 9000")
    return log


def test_on_a_gpu_a_call_ends_when_the_device_has_computed_it(gpu: list[str]) -> None:
    timing = TorchTiming(lambda: gpu.append("run"), timed="a call", device=torch.device("cuda:0"))
    assert timing.device == "cuda:0 (Imaginary 9000)"
    timing.call()
    assert gpu == ["reset", "event", "run", "event", "synchronize"]
    assert timing.device_seconds() == 2.0
    assert timing.device_peak_bytes() == 12345
    timing.close()
    assert gpu[-1] == "empty"
