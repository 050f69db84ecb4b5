"""Check versions on a GPU against versions on the CPU, and print the figures.

    PYTHONPATH=src:converters python scripts/proof/devices.py [--device cuda:0] [--json FILE]

Needs PyTorch with CUDA and what bridge itself needs (onnx, onnxruntime, ...), TensorFlow where it is
installed. It runs unattended: a check that cannot be made here says why and does not stop the others. The
exit code is 0 where every check that was made came out as expected, 1 otherwise, 3 without a GPU.

Every pair is one model, in PyTorch on the device and exported to ONNX in onnxruntime on the CPU:

- float32 with TF32 off: equivalent, with the figures of both sides' errors against float64 on the CPU;
- with TF32 on but not allowed by the verdict's tolerances: how large its errors are;
- `--allow-tf32`, `--autocast bfloat16`, `--dtype float16`: equivalent by the tolerances of that precision;
- a weight off by a tenth: different, in each of these precisions;
- twice with `--deterministic`: the same bits.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from bridge.settings import side_setting
from bridge.verification.api import verify
from bridge.verification.checks import Checks
from bridge.verification.report import Report

MODELS = '''
"""The models of the check, each seeded."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.qkv = nn.Linear(64, 192)
        self.out = nn.Linear(64, 64)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        q, k, v = (each.unflatten(-1, (4, 16)).transpose(1, 2) for each in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(24, 48, num_layers=2, batch_first=True)
        self.head = nn.Linear(48, 5)
        with torch.no_grad():
            for each in self.parameters():
                each.mul_(3.0)  # as they are drawn, the outputs hardly vary

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def seeded(make, factor=1.0):
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.running_mean.normal_(0, 0.1)
                each.running_var.uniform_(0.5, 1.5)
        last = [each for each in model.parameters() if each.ndim > 1][-1]
        last *= factor
    return model


def convolutional():
    layers = []
    for given, made in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(given, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def perceptron():
    hidden = (nn.Linear(512, 1024), nn.GELU(), nn.Linear(1024, 1024), nn.GELU())
    return nn.Sequential(*hidden, nn.Linear(1024, 64))


def attention():
    return nn.Sequential(*(Attention() for _ in range(4)), nn.LayerNorm(64), nn.Linear(64, 16))


for make in (convolutional, perceptron, attention, Recurrent):
    name = make.__name__.lower()
    globals()["build_" + name] = lambda make=make: seeded(make)
    globals()["wrong_" + name] = lambda make=make: seeded(make, 1.1)
'''

INPUTS = {
    "convolutional": (3, 32, 32),
    "perceptron": (512,),
    "attention": (32, 64),
    "recurrent": (20, 24),
}


@dataclass(frozen=True)
class Figure:
    """One check: what was compared and expected, what came out, and the largest errors over its inputs."""

    model: str
    check: str
    expected: str
    verdict: str
    source_error: float | None = None
    target_error: float | None = None
    tolerance: float | None = None
    seconds: float = 0.0
    reason: str = ""

    @property
    def failed(self) -> bool:
        return self.verdict not in ("not made", self.expected)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--models", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    import torch

    if given.device != "cpu" and not torch.cuda.is_available():
        print("PyTorch sees no GPU here")
        return 3
    if given.device != "cpu":
        print(
            f"{torch.cuda.get_device_name(given.device)}, PyTorch {torch.__version__}, "
            f"CUDA {torch.version.cuda}"
        )
    figures = []
    with tempfile.TemporaryDirectory() as directory, chdir(directory):
        Path("device_models.py").write_text(MODELS, encoding="utf-8")
        sys.path.insert(0, directory)
        for name in given.models:
            for figure in _checks(name, INPUTS[name], given.device):
                print(_line(figure), flush=True)
                figures.append(figure)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(each) for each in figures], indent=1), encoding="utf-8")
    failed = [each for each in figures if each.failed]
    print(f"{len(figures)} checks, {len(failed)} not as expected")
    return 1 if failed else 0


def _checks(name: str, shape: tuple[int, ...], device: str) -> Iterator[Figure]:
    good, wrong = f"device_models:build_{name}", f"device_models:wrong_{name}"
    inputs = "x".join(["N", *map(str, shape)])
    onnx = _exported(name, shape)
    on_device: dict[str, Any] = {"source_device": device}
    precise: dict[str, Any] = {"source_device": device, "allow_tf32": True}

    def check(
        label: str, expected: str, source: str, target: str, *, dtype: str | None = None, **setting: Any
    ) -> Figure:
        return _figure(
            name, label, expected, lambda: _verified(source, target, inputs, dtype=dtype, **setting)
        )

    yield check("PyTorch on the device, onnxruntime", "equivalent", good, onnx, **on_device)
    yield check("the same, a weight 1.1 times as large", "different", wrong, onnx, **on_device)
    yield check("onnxruntime, PyTorch on the device", "equivalent", onnx, good, target_device=device)
    yield check("PyTorch on both", "equivalent", good, good, target_device=device)
    yield check("TF32 allowed", "equivalent", good, onnx, **precise)
    yield check("TF32 allowed, wrong weight", "different", wrong, onnx, **precise)
    yield check("autocast to bfloat16", "equivalent", good, good, device=device, autocast="bfloat16")
    yield check("autocast, wrong weight", "different", good, wrong, device=device, autocast="bfloat16")
    for dtype in ("float16", "bfloat16"):
        yield check(f"in {dtype}", "equivalent", good, good, dtype=dtype, target_device=device)
        yield check(f"in {dtype}, wrong weight", "different", good, wrong, dtype=dtype, target_device=device)
    yield check("deterministic", "equivalent", good, onnx, deterministic=True, **on_device)
    yield _unallowed_tf32(name, shape, device)
    yield _same_bits(name, shape, device)
    if importlib.util.find_spec("tensorflow") is not None:
        yield _figure(
            name, "PyTorch on the device, TensorFlow", "equivalent", lambda: _by_bridge(name, shape, device)
        )


def _exported(name: str, shape: tuple[int, ...]) -> str:
    import device_models
    import torch

    path = Path(f"{name}.onnx")
    model = getattr(device_models, f"build_{name}")()
    batch = torch.export.Dim("N", min=1, max=4096)
    torch.onnx.export(
        model,
        (torch.zeros(2, *shape),),
        str(path),
        dynamo=True,
        dynamic_shapes=({0: batch},),
        input_names=["input"],
        verbose=False,
    )
    return str(path)


def _verified(source: str, target: str, inputs: str, *, dtype: str | None = None, **setting: Any) -> Report:
    return verify(
        source,
        target,
        Checks(inputs=inputs, batches=[4, 1, 17], dtype=dtype, localise=False),
        dtype=dtype,
        timeout=300,
        source_setting=side_setting("source", setting),
        target_setting=side_setting("target", setting),
    )


def _by_bridge(name: str, shape: tuple[int, ...], device: str) -> Report:
    """The module on the device against what bridge makes of it for TensorFlow, on the CPU."""
    import device_models
    import torch

    import bridge

    model = getattr(device_models, f"build_{name}")()
    result = bridge.convert(model, "tf", torch.zeros(2, *shape), verify=False)
    inputs = "x".join(["N", *map(str, shape)])
    return _verified(f"device_models:build_{name}", str(result.directory), inputs, source_device=device)


def _figure(model: str, check: str, expected: str, make: Callable[[], Report]) -> Figure:
    started = time.perf_counter()
    try:
        report = make()
    except BridgeError as error:
        return Figure(model, check, expected, "not made", reason=error.message)
    errors = [each for output in report.outputs for each in output.errors if each.source_l2 is not None]
    worst = max(errors, key=lambda each: each.target_l2 or 0.0, default=None)
    return Figure(
        model,
        check,
        expected,
        report.verdict,
        None if worst is None else worst.source_l2,
        None if worst is None else worst.target_l2,
        None if worst is None else worst.tolerance_l2,
        time.perf_counter() - started,
        "; ".join(report.reasons),
    )


def _unallowed_tf32(name: str, shape: tuple[int, ...], device: str) -> Figure:
    """How far TF32 is from float64: what the verdict would have to allow if it were on by default."""
    import device_models
    import torch

    x = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0))
    model = getattr(device_models, f"build_{name}")()
    with torch.no_grad():
        reference = model.double()(x.double())
        model = model.float().to(device)
        errors = []
        for allowed in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
            found = model(x.to(device)).cpu().double()
            errors.append(float((found - reference).norm() / reference.norm()))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return Figure(name, "errors without and with TF32", "measured", "measured", errors[0], errors[1])


def _same_bits(name: str, shape: tuple[int, ...], device: str) -> Figure:
    """Whether two runs on the device give the same bits."""
    import device_models
    import torch

    x = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    model = getattr(device_models, f"build_{name}")().to(device)
    with torch.no_grad():
        same = all(torch.equal(model(x), model(x)) for _ in range(5))
    return Figure(name, "five runs give the same bits", "yes", "yes" if same else "no")


def _line(figure: Figure) -> str:
    numbers = [
        f"{label} {value:.2e}"
        for label, value in (
            ("source", figure.source_error),
            ("target", figure.target_error),
            ("tolerance", figure.tolerance),
        )
        if value is not None
    ]
    mark = "FAILED" if figure.failed else "ok"
    text = f"{mark:6} {figure.model:13} {figure.check:38} {figure.verdict:12} {' '.join(numbers)}"
    return text if figure.verdict == figure.expected else f"{text} {figure.reason}"


if __name__ == "__main__":
    sys.exit(main())
