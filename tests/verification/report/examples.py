"""Reports of every kind, made by hand: what renderings are tried on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridge.verification.compare import Errors, OutputResult, Worst
from bridge.verification.gradients import GradientsResult, TensorGradient
from bridge.verification.histogram import error_spectra, histogram
from bridge.verification.localise import Localisation, Place
from bridge.verification.matching import Suspect
from bridge.verification.report import DrawReport, InputReport, Report, SideReport, Timing
from bridge.verification.report.depth import Depth, DepthPoint
from bridge.verification.report.environment import ComparedFile, Environment, SideEnvironment
from bridge.verification.report.model import MatchedWeights
from bridge.verification.report.structure import ModuleNames, Structure, TensorNames
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.running_statistics import TrainedTensor
from bridge.verification.speed import (
    Estimate,
    Gate,
    MemoryUse,
    Noise,
    Ratio,
    SideMemory,
    SideSpeed,
    SpeedResult,
    SpeedRow,
    SpeedSide,
    Threads,
)
from bridge.verification.training import TrainingResult
from bridge.verification.weights import WeightDifference, WeightsResult

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "line one\nverdict: equivalent\r\n::error::forged",
    "\x00\x1b[31mred\x1b[0m\x07\ufffe",
    "x" * 10_000,
    "שלום עולם ‮evil‬",
    "`code` | pipe | **bold** @everyone #1 &amp; %0A",
    "\ud800 half a character",
    "]]><failure/>&lt;",
    "{{ 7 * 7 }}{% raw %}",
)
"""Names that somebody might write into a model's file."""


def errors(rule: str = "typical", *, factor: float = 1.0, passed: bool = True) -> Errors:
    """Distances of a target whose error is so many times that of its source."""
    rng = np.random.default_rng(0)
    exact = rng.standard_normal(500)
    source = exact + 1e-8 * rng.standard_normal(500)
    target = exact + factor * 1e-8 * rng.standard_normal(500)
    found = histogram(*error_spectra(source, target, exact), float(np.abs(exact).max()))
    return Errors(
        rule,  # type: ignore[arg-type]
        "reference",
        source_l2=6.1e-8,
        source_max=9e-8,
        target_l2=6.1e-8 * factor,
        target_max=9e-8 * factor,
        tolerance_l2=7.9e-6,
        tolerance_max=8e-6,
        stable=True,
        passed=passed,
        function_l2=None if passed else 1e-3,
        function_max=None if passed else 2e-3,
        function_limit_l2=None if passed else 1e-6,
        function_limit_max=None if passed else 1e-6,
        histogram=found,
    )


def right_output(name: str = "logits") -> OutputResult:
    return OutputResult(
        name, "float32", "equivalent", (), (errors(), errors("large", factor=1.5)), varies=True
    )


def wrong_output(name: str = "scores") -> OutputResult:
    wrong = errors(factor=1e5, passed=False)
    reasons = ("typical inputs: the error is 0.0061, the tolerance 7.9e-06",)
    worst = Worst("0-typical-batch3", (1, 4), "0.25", "0.75", "0.250001")
    return OutputResult(name, "float32", "different", reasons, (wrong,), varies=True, worst=worst)


def speed(*, gates: tuple[Gate, ...] = ()) -> SpeedResult:
    rng = np.random.default_rng(1)

    def side(median: float) -> SideSpeed:
        samples = tuple(float(each) for each in median * (1 + 0.05 * np.abs(rng.standard_normal(200))))
        estimate = Estimate(median, median * 0.99, median * 1.01)
        return SideSpeed(samples, 4000, estimate, median * 1.1, Estimate(1 / median, 1, 2), 0.5, median)

    ratio = Ratio(Estimate(1.31, 1.28, 1.35), "wall", (1.3, 1.32), 40)
    memory = MemoryUse(SideMemory(80 * 2**20), SideMemory(120 * 2**20), 1.5)
    row = SpeedRow(
        "inference",
        "plain",
        8,
        side(0.002),
        side(0.0026),
        ratio,
        ratio,
        Noise(0.02, 0.0, None, 0.1),
        memory,
        "slower",
        "the target takes 1.31 times as long",
    )
    compiled = replace(
        row,
        variant="compiled",
        target=None,
        ratio=None,
        wall=None,
        memory=MemoryUse(SideMemory(2**20), None, None),
        decided="undecided",
        sentence="the target cannot be compiled",
        notes=("TensorFlow: no XLA kernel",),
    )
    place = SpeedSide(
        "model.py", "a forward pass", "cpu", Threads(2, 2, 1), 2.5, 0.3, 4_000_000, 2**28, 2**24, 2**25
    )
    return SpeedResult((row, compiled), place, place, 1.1, 3, 42.0, 10.0, gates, ("the machine was quiet",))


GATE = Gate("slowdown", "1.1", "inference, batch 8", "failed", 1.31, "slower: 1.31 times, at most 1.1")

DEPTH = Depth(
    "1-typical-batch1",
    4,
    (
        DepthPoint(0, "conv", "Conv", "body", "model.py:12", "conv2d", 1e-16, 2e-7, 2.1e-7),
        DepthPoint(1, "act", "Gelu", "body", "model.py:13", "gelu", 3e-4, 2e-7, 2.2e-7),
        DepthPoint(3, "fc", "Gemm", "head", "model.py:14", "linear", float("inf"), None, None),
    ),
    first_wrong=1,
)

STRUCTURE = Structure(
    (
        TensorNames(
            "body.conv.kernel", ("body.conv.weight",), (3, 3, 3, 8), "float32", "parameter", "transpose"
        ),
        TensorNames("body.conv.bias", ("body.conv.bias",), (8,), "float32", "parameter"),
        TensorNames("head/kernel", ("head.weight",), (8, 5), "float32", "parameter", "transpose perm=1,0"),
        TensorNames("scale", (), (), "float32", "buffer", "a constant"),
    ),
    (
        ModuleNames("", ("",), ("Flatten",), 10),
        ModuleNames("body", ("body", "body.act"), ("Conv", "Gelu"), 12, "net.py:7"),
        ModuleNames("head", ("head",), ("Gemm",), 14),
    ),
    "model.py",
)

ENVIRONMENT = Environment(
    "0.1.0",
    "3.11.7",
    "Linux",
    "a processor",
    2,
    1,
    ("bridge", "verify", "model.pt2", "out/"),
    SideEnvironment("3.11.7", {"numpy": "2.4.6", "torch": "2.13.0"}),
    None,
    (
        ComparedFile("source", "model.pt2", 49_167, "ab" * 32),
        ComparedFile("target", "out/model.py", 2_000, "cd" * 32),
    ),
    ("inputs have no file",),
)

LOCALISATION = Localisation(
    Place("gelu", "Gelu", "body.act", "net.py:7"),
    Place("act", "Gelu", "body", "model.py:13"),
    3e-4,
    "anchors",
    "writer",
    last_equal=(("conv2d", "conv"),),
    notes=("it is the approximation by tanh",),
)

EQUIVALENT = Report(
    "equivalent",
    (),
    SideReport("model.pt2", "exported program under PyTorch 2.13.0"),
    SideReport("out", "model.py under PyTorch 2.13.0"),
    0,
    "the source computed in float64 by its own framework",
    outputs=(right_output(), right_output("embedding")),
    draws=(DrawReport("0-typical-batch3", "typical", (InputReport("x", "float32", (3, 8)),)),),
    weights=WeightsResult(14, 2098, 1, (), (), ("bn.num_batches_tracked",)),
    structure=STRUCTURE,
    environment=ENVIRONMENT,
    notes=("trains unlike the source",),
    timing=Timing(12.5, 0.1, 0.2, 2**28, 2**29, "2026-11-24T04:00:28+00:00"),
)

DIFFERENT = replace(
    EQUIVALENT,
    verdict="different",
    reasons=("output scores: typical inputs: the error is 0.0061, the tolerance 7.9e-06",),
    outputs=(right_output(), wrong_output()),
    localisation=LOCALISATION,
    depth=DEPTH,
)

UNCHECKED = Report(
    "could not be checked",
    ("the target worker died of signal 11: its last output:\nSegmentation fault\n\x1b[31mcore dumped",),
    SideReport("model.pt2", "not loaded"),
    SideReport("out", "not loaded"),
    3,
    "nothing",
    weights_note="the verification was not completed",
)

WRONG_WEIGHT = replace(
    EQUIVALENT,
    verdict="different",
    reasons=("1 of 14 weights are not the source's",),
    weights=WeightsResult(
        14, 2090, 0, (WeightDifference("head/kernel", "1 of 40 elements differ"),), ("new",), ()
    ),
)

MATCHED = replace(
    EQUIVALENT,
    weights=None,
    matched_weights=MatchedWeights(
        3, 300, ("a",), ("zeros",), (Suspect("b", "c", "a rounding of it", False),), ("left",), ("over",)
    ),
    structure=None,
)

TRAINED = replace(
    EQUIVALENT,
    verdict="different",
    reasons=("the gradient of the weight head.weight: it is 0.5 off",),
    gradients=GradientsResult(
        "different",
        (
            TensorGradient("x", "input", ("x",), "equal", 1e-12),
            TensorGradient("head.weight", "weight", ("head/kernel",), "different", 0.5, "it is 0.5 off"),
            TensorGradient("frozen", "weight", (), "not comparable", None, "nothing depends on it"),
        ),
        function_error=1e-9,
        notes=("a kink",),
    ),
    training=TrainingResult(
        "equivalent",
        3,
        3,
        0.01,
        source_losses=(0.5, 0.4, 0.3),
        target_losses=(0.5, 0.4, 0.3000000001),
        loss_error=3e-10,
        tensors=(TrainedTensor("head/kernel", "parameter", "equal", 1e-9),),
        conventions=("bn/moving_variance: the source divides the variance by n - 1",),
    ),
)

MEASURED = replace(EQUIVALENT, verdict="different", reasons=(GATE.reason,), speed=speed(gates=(GATE,)))


def huge(outputs: int = 500, layers: int = 1000) -> Report:
    """A model of many outputs and layers, of which a few are wrong."""
    names = [f"blocks.{block}.layers.{layer}" for block in range(layers // 10) for layer in range(10)]
    tensors = tuple(
        TensorNames(f"{name}.{kind}", (f"{name}.{kind}",), (8, 8), "float32", "parameter")
        for name in names
        for kind in ("weight", "bias")
    )
    modules = tuple(ModuleNames(name, (name,), ("Gemm", "Relu"), line) for line, name in enumerate(names, 1))
    points = tuple(
        DepthPoint(
            position, name, "Gemm", name, f"model.py:{position + 1}", name, 1e-16 * (1 + position), 1e-7, 1e-7
        )
        for position, name in enumerate(names)
    )
    return replace(
        DIFFERENT,
        outputs=tuple(
            wrong_output(f"out{number}") if number % 100 == 7 else right_output(f"out{number}")
            for number in range(outputs)
        ),
        structure=Structure(tensors, modules, "model.py"),
        depth=Depth("0-typical", layers, points, 500),
    )


def hostile(name: str) -> Report:
    """A report in which everything that a file may choose is one name."""
    place = Place(name, name, name, f"{name}:3")
    return replace(
        TRAINED,
        reasons=(f"output {name}: it differs",),
        source=SideReport(name, name),
        target=SideReport(name, name, (name,)),
        outputs=(replace(wrong_output(name), notes=(name,)), right_output(name)),
        draws=(DrawReport(name, "user", (InputReport(name, "float32", (1,)),)),),
        weights=WeightsResult(2, 3, 0, (WeightDifference(name, "1 of 2 elements differ"),), (name,), (name,)),
        gradients=GradientsResult(
            "different", (TensorGradient(name, "weight", (name,), "different", 1.0, name),)
        ),
        localisation=Localisation(
            place, place, 1.0, "values", None, (place,), (place,), ((name, name),), (name,)
        ),
        depth=Depth(name, 1, (DepthPoint(0, name, name, name, name, name, 1.0),), 0),
        structure=Structure(
            (TensorNames(name, (name,), (1,), "float32", "parameter", name),),
            (ModuleNames(name, (name,), (name,), 1, name),),
            name,
        ),
        environment=replace(
            ENVIRONMENT, command=(name,), files=(ComparedFile("source", name, 1, "ab" * 32),), notes=(name,)
        ),
        notes=(name,),
    )


REPORTS = {
    "equivalent": EQUIVALENT,
    "different": DIFFERENT,
    "unchecked": UNCHECKED,
    "wrong-weight": WRONG_WEIGHT,
    "matched": MATCHED,
    "trained": TRAINED,
    "measured": MEASURED,
    **{f"hostile-{number}": hostile(name) for number, name in enumerate(HOSTILE)},
}

SUITE = SuiteReport(
    "suite.toml",
    (
        PairReport("right", "a.pt2", "b", EQUIVALENT, seconds=3.0),
        PairReport("wrong <b>", "a.pt2", "c", DIFFERENT, seconds=4.0),
        PairReport("crashed", "a.pt2", "d", None, "it crashed\nSegmentation fault"),
        PairReport("slower", "a.pt2", "e", EQUIVALENT, regressions=("1.4 times slower",), resumed=True),
    ),
    ("one pair was resumed",),
    9.5,
)
