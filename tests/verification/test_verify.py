from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import N, network, save

from bridge import verification
from bridge.api import verify
from bridge.errors import EnvironmentFailure, ExitCode, InputError
from bridge.formats.request import ReadRequest
from bridge.testing import assert_equivalent
from bridge.verification import Checks, Report, Session
from bridge.verification import api as verify_api
from bridge.verification.parties import Party
from bridge.verification.run import run_once
from bridge.worker.standalone import write_tensors

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("source") / "source.onnx")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_right_version_passes(source: Path, tmp_path: Path, seed: int) -> None:
    report = verify(source, network(tmp_path / "same.onnx"), seed=seed)
    assert report.verdict == "equivalent"
    assert report.passed
    assert report.exit_code is ExitCode.OK
    assert [draw.inputs[0].shape[0] for draw in report.draws[:3]] == [3, 1, 17]
    assert report.outputs[0].varies is True
    assert "float64" in report.reference


@pytest.mark.parametrize(
    "fault",
    [
        {"weight_factor": 1 + 1e-4},
        {"approximate": "tanh"},
        {"epsilon": 1e-3},
        {"epsilon": 1e-6},
        {"half_weights": True},
    ],
    ids=lambda fault: next(iter(fault)),
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_single_fault_is_found(source: Path, tmp_path: Path, fault: dict[str, Any], seed: int) -> None:
    report = verify(source, network(tmp_path / "wrong.onnx", **fault), seed=seed)
    assert report.verdict == "different"
    assert not report.passed
    assert report.exit_code is ExitCode.DIFFERENT
    assert report.outputs[0].worst is not None
    assert "logits" in report.reasons[0]


def test_equal_runs_give_equal_reports(source: Path, tmp_path: Path) -> None:
    target = network(tmp_path / "target.onnx", input_name="Image")
    texts = []
    for name in ("first.json", "second.json"):
        verify(source, target, seed=5).to_json(tmp_path / name)
        record = json.loads((tmp_path / name).read_text())
        assert record.pop("timing")["total_seconds"] > 0
        texts.append(json.dumps(record))
    assert texts[0] == texts[1]
    assert record["schema"] == 2
    assert record["verdict"] == "equivalent"


def test_user_inputs_are_used_alone(source: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "in.npz", image=images)
    report = verify(source, network(tmp_path / "same.onnx"), inputs=tmp_path / "in.npz")
    assert report.passed
    assert [(draw.rule, draw.inputs[0].shape) for draw in report.draws] == [("user", (2, 3, 12, 12))]
    with pytest.raises(InputError, match="cannot run the given inputs"):
        verify(source, source, inputs=[images[:, :2]])


def test_examples_may_be_run_beside_what_is_drawn(source: Path, tmp_path: Path) -> None:
    example = np.zeros((1, 3, 12, 12), np.float32)
    target = network(tmp_path / "same.onnx")
    alone = verify(source, target, inputs=[example])
    assert len(alone.draws) == 1
    assert any("one input alone" in note for note in alone.notes)
    both = verification.verify(source, target, Checks(inputs=[example], draw=True), target_name="final.onnx")
    assert both.passed
    assert both.target.path == "final.onnx"
    assert [draw.rule for draw in both.draws][:2] == ["user", "typical"]
    assert len({draw.name for draw in both.draws}) == len(both.draws) == 11


def test_a_target_that_fixes_the_batch_is_run_at_its_size(source: Path, tmp_path: Path) -> None:
    report = verify(source, network(tmp_path / "fixed.onnx", batch=2))
    assert report.passed
    assert {draw.inputs[0].shape[0] for draw in report.draws} == {2}
    assert any("with fixed sizes only" in note for note in report.notes)


def test_token_ids_stay_within_the_vocabulary(tmp_path: Path) -> None:
    def embedding(path: Path, factor: float) -> Path:
        table = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
        table[70:] *= np.float32(factor)
        nodes = [
            N("Gather", ["table", "ids"], ["rows"]),
            N("ReduceMean", ["rows", "axes"], ["y"], keepdims=0),
        ]
        return save(
            path,
            nodes,
            {"ids": (INT64, ["N", "S"])},
            {"y": (FLOAT, ["N", 6])},
            {"table": table, "axes": np.array([1])},
        )

    source = embedding(tmp_path / "source.onnx", 1)
    report = verify(source, embedding(tmp_path / "same.onnx", 1))
    assert report.passed
    assert not verify(source, embedding(tmp_path / "wrong.onnx", 1.001)).passed


def test_an_output_that_never_varies_proves_nothing(tmp_path: Path) -> None:
    def constant(path: Path) -> Path:
        nodes = [N("Mul", ["x", "zero"], ["m"]), N("Add", ["m", "one"], ["y"])]
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        return save(
            path, nodes, {"x": (FLOAT, ["N", 3])}, {"y": (FLOAT, ["N", 3])}, {"zero": zero, "one": one}
        )

    report = verify(constant(tmp_path / "a.onnx"), constant(tmp_path / "b.onnx"))
    assert report.verdict == "could not be checked"
    assert report.exit_code is ExitCode.ENVIRONMENT
    assert "does not vary" in report.summary()


def test_an_unstable_source_cannot_be_judged_by(tmp_path: Path) -> None:
    def cancelling(path: Path) -> Path:
        nodes = [N("Add", ["x", "big"], ["s"]), N("Sub", ["s", "big"], ["y"])]
        big = np.full(1, 1e5, np.float32)
        return save(path, nodes, {"x": (FLOAT, ["N", 3])}, {"y": (FLOAT, ["N", 3])}, {"big": big})

    report = verify(cancelling(tmp_path / "a.onnx"), cancelling(tmp_path / "b.onnx"))
    assert report.verdict == "could not be checked"
    assert "too much to judge by" in report.reasons[0]


def test_numbers_of_inputs_and_outputs_are_part_of_a_model(tmp_path: Path) -> None:
    one = save(tmp_path / "one.onnx", [N("Relu", ["x"], ["y"])], {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])})
    two = save(
        tmp_path / "two.onnx",
        [N("Relu", ["x"], ["y"]), N("Neg", ["x"], ["z"])],
        {"x": (FLOAT, ["N"])},
        {"y": (FLOAT, ["N"]), "z": (FLOAT, ["N"])},
    )
    more = save(
        tmp_path / "more.onnx",
        [N("Add", ["x", "w"], ["y"])],
        {"x": (FLOAT, ["N"]), "w": (FLOAT, ["N"])},
        {"y": (FLOAT, ["N"])},
    )
    assert verify(one, two).reasons == ("the source has 1 outputs, the target 2",)
    assert verify(one, more).reasons == ("the source has 1 inputs, the target 2",)
    assert verify(one, two).verdict == "different"


def test_inputs_and_outputs_go_by_name_where_the_names_fit(tmp_path: Path) -> None:
    def model(path: Path, names: list[str], outputs: list[str]) -> Path:
        return save(
            path,
            [N("Sub", ["a", "b"], ["d"]), N("Mul", ["a", "a"], ["q"])],
            {name: (FLOAT, ["N", 2]) for name in names},
            {name: (FLOAT, ["N", 2]) for name in outputs},
        )

    source = model(tmp_path / "source.onnx", ["b", "a"], ["q", "d"])
    assert verify(source, model(tmp_path / "sorted.onnx", ["a", "b"], ["d", "q"])).passed
    a, b = np.float32([[1, 2]]), np.float32([[3, 5]])
    first, second = run_once(tmp_path / "sorted.onnx", [b, a], inputs=["b", "a"], outputs=["q", "d"])
    assert np.array_equal(first, a * a)
    assert np.array_equal(second, a - b)
    with pytest.raises(InputError, match="takes 2 inputs"):
        run_once(tmp_path / "sorted.onnx", [a])


def test_requests_and_bad_paths(source: Path, tmp_path: Path) -> None:
    assert verify(ReadRequest(str(source), "onnx"), source).passed
    with pytest.raises(InputError):
        verify(source, tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError):
        verify(source, tmp_path / "text.onnx")


class _Sides:
    """Makes `verify` run the hand-made models of tests/worker: verify({...}, {...})."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "worker"))
        monkeypatch.setattr(verify_api, "resolve", lambda request, **_: request)

    def __call__(self, source: dict[str, Any], target: dict[str, Any], **options: Any) -> Report:
        parties = [Party("model", "side_models:load", request) for request in (source, target)]
        return verify(parties[0], parties[1], **options)  # type: ignore[arg-type]


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> _Sides:
    return _Sides(monkeypatch)


@pytest.mark.parametrize("which", ["source", "target"])
@pytest.mark.parametrize("fault", ["crash", "killed", "hang", "garbage", "memory"])
def test_a_broken_worker_is_never_a_verdict(sides: _Sides, fault: str, which: str, tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = [{"fault": fault}, {}]
    first, second = requests if which == "source" else reversed(requests)
    report = sides(first, second, timeout=4)
    assert report.verdict == "could not be checked"
    assert report.exit_code is ExitCode.ENVIRONMENT
    assert f"the {which} worker" in report.reasons[0]
    if fault == "crash":
        assert "last words" in report.reasons[0]
    report.to_junit(tmp_path / "junit.xml")
    (case,) = ElementTree.parse(tmp_path / "junit.xml").iter("error")
    assert f"the {which} worker" in (case.text or "")


def test_a_crash_in_float64_is_not_a_pass(sides: _Sides) -> None:
    report = sides({"fp64": "crash"}, {})
    assert report.verdict == "could not be checked"
    assert "SIGABRT" in report.reasons[0]


def test_a_session_replaces_a_worker_that_died(sides: _Sides) -> None:
    good, bad = (Party("model", "side_models:load", request) for request in ({}, {"fault": "crash"}))
    with Session(good, good) as session:
        first = session.verify(Checks(seed=1))
        assert first.passed
        session.replace_target(bad)
        assert session.verify().verdict == "could not be checked"
        session.replace_target(good)
        again = session.verify(Checks(seed=1))
        assert again == first
        assert session.verify(Checks(seed=2)).draws == first.draws


def test_a_random_version_is_called_random(sides: _Sides) -> None:
    report = sides({}, {"fault": "random"})
    assert report.verdict == "different"
    assert "the target gives other outputs when it runs the same inputs again" in report.reasons[0]
    report = sides({"fault": "random"}, {"fault": "random"})
    assert report.verdict == "could not be checked" or "random" in " ".join(report.reasons)


def test_a_target_that_fails_where_the_source_runs_is_different(sides: _Sides) -> None:
    report = sides({}, {"fault": "batch"})
    assert report.verdict == "different"
    assert "ValueError: one at a time" in report.reasons[0]
    report = sides({}, {"fault": "raise"})
    assert report.verdict == "different"
    assert report.outputs == ()
    assert sides({}, {"fault": "fewer"}).reasons == ("the source has 2 outputs, the target 1",)


def test_inputs_that_the_source_refuses_are_left_out_and_noted(sides: _Sides) -> None:
    report = sides({"fault": "batch"}, {})
    assert [draw.name for draw in report.draws] == ["1-typical-batch1"]
    assert any("one at a time" in note for note in report.notes)
    with pytest.raises(InputError, match="runs none of the inputs"):
        sides({"fault": "raise"}, {})


def test_without_float64_fixed_tolerances_decide_and_the_report_says_so(sides: _Sides) -> None:
    report = sides({"fp64": "no"}, {})
    assert report.passed
    assert "fixed tolerances" in report.reference
    assert any("no float64 here" in note for note in report.notes)
    narrow = sides({"fp64": "narrow"}, {})
    assert narrow.passed
    assert any("an output stays float32" in note for note in narrow.notes)
    assert sides({"fp64": "no"}, {"error": 2e-5}).verdict == "could not be checked"
    assert sides({"fp64": "no"}, {"error": 0.1}).verdict == "different"


def test_weights_are_compared_through_the_map(
    sides: _Sides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {
        "format": "bridge.weights",
        "version": 1,
        "source_framework": "tf",
        "target_framework": "torch",
        "tensors": [
            {
                "target": "shift",
                "shape": [],
                "dtype": "float32",
                "kind": "parameter",
                "trainable": True,
                "recipe": {"source": "offset"},
                "recipe_kind": "bijective",
                "note": None,
            }
        ],
        "aliases": {},
        "unused": [],
    }
    (tmp_path / "weights.json").write_text(json.dumps(record))
    source = Party("source", "side_models:load", {})
    target = Party("target", "side_models:load", {"weights": False}, tmp_path)
    write_tensors(str(tmp_path / "model.safetensors"), {"shift": np.float32(0.5)})
    report = verify(source, target)  # type: ignore[arg-type]
    assert report.passed
    assert report.weights is not None
    assert "equal bit for bit" in report.summary()
    write_tensors(
        str(tmp_path / "model.safetensors"), {"shift": np.nextafter(np.float32(0.5), np.float32(1))}
    )
    report = verify(source, target)  # type: ignore[arg-type]
    assert report.verdict == "different"
    assert all(output.verdict == "equivalent" for output in report.outputs)
    assert "shift" in report.summary()
    assert report.localisation is not None
    assert (report.localisation.how, report.localisation.target.name) == ("weights", "shift")


def test_assert_equivalent(source: Path, tmp_path: Path, sides: _Sides) -> None:
    good = Party("m", "side_models:load", {})
    assert assert_equivalent(good, good).passed  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="verdict: different"):
        assert_equivalent(good, Party("m", "side_models:load", {"error": 1}))  # type: ignore[arg-type]
    unclear = Party("m", "side_models:load", {"fp64": "no"})
    with pytest.raises(EnvironmentFailure, match="could not be checked"):
        assert_equivalent(unclear, Party("m", "side_models:load", {"error": 2e-5}))  # type: ignore[arg-type]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_hostile_names_stay_text_in_every_rendering(tmp_path: Path) -> None:
    name = "x\"'<script>alert(1)</script>&\x07"
    model = save(
        tmp_path / "m.onnx",
        [N("Relu", [name], [name + "y"])],
        {name: (FLOAT, ["N", 2])},
        {name + "y": (FLOAT, ["N", 2])},
    )
    report = verify(model, model)
    assert report.passed
    for write, file in ((report.to_html, "r.html"), (report.to_junit, "r.xml"), (report.to_json, "r.json")):
        write(tmp_path / file)
    page = _Page()
    page.feed((tmp_path / "r.html").read_text())
    assert page.tags.count("script") == 1, "the page's own"
    assert not any(
        key == "src" or (key == "href" and value[:1] != "#") for key, value in page.attributes if value
    )
    assert ("lang", "en") in page.attributes
    assert {"caption", "th", "main", "h1"} <= set(page.tags)
    assert json.loads((tmp_path / "r.json").read_text())["outputs"][0]["name"] == name + "y"
    ElementTree.parse(tmp_path / "r.xml")


def test_junit_tells_failures_from_errors(source: Path, tmp_path: Path, sides: _Sides) -> None:
    sides({}, {"error": 1}).to_junit(tmp_path / "different.xml")
    suite = ElementTree.parse(tmp_path / "different.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("2", "0", "0")
    sides({"fp64": "no"}, {"error": 2e-5}).to_junit(tmp_path / "unchecked.xml")
    suite = ElementTree.parse(tmp_path / "unchecked.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "2")
    assert suite.get("tests") == str(len(suite.findall("testcase")))


def test_weights_that_cannot_be_read_leave_the_verdict_open(sides: _Sides, tmp_path: Path) -> None:
    source = Party("source", "side_models:load", {"weights": "fail"})
    report = verify(source, Party("target", "side_models:load", {}, tmp_path))  # type: ignore[arg-type]
    assert report.verdict == "could not be checked"
    assert "OSError: unreadable" in report.reasons[0]
