"""The list of right pairs, and the making of their files. Runs workers; imports no framework."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.verification.checks import Checks
from bridge.verification.parties import resolve
from bridge.verification.session import Session
from scripts.proof import pairs
from scripts.proof.calibrate import CALIBRATED
from scripts.proof.pairs import PAIRS


def test_at_least_fifty_pairs_of_both_makings_and_directions() -> None:
    assert len(PAIRS) >= 50
    for made in ("hand", "converted"):
        directions = [pair.source for pair in PAIRS.values() if pair.made == made]
        assert len(directions) >= 18
        assert directions.count("torch") >= 5
        assert directions.count("tf") >= 5


def test_every_pair_has_a_dynamic_batch() -> None:
    for pair in PAIRS.values():
        assert pair.inputs
        assert all(each.shape[0] == "batch" for each in pair.inputs)


def test_converted_pairs_share_definitions_of_their_own_family() -> None:
    for pair in PAIRS.values():
        if pair.definition and pair.made == "converted":
            original = PAIRS[pair.definition]
            assert (original.family, original.inputs, original.keras) == (
                pair.family,
                pair.inputs,
                pair.keras,
            )


def test_calibration_takes_twenty_hand_written_pairs() -> None:
    assert len(set(CALIBRATED)) == 20
    assert all(PAIRS[name].made == "hand" for name in CALIBRATED)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pairs")
    pairs.build(directory, ["unet", "lenet_to_torch"])
    return directory


def test_build_makes_both_sides_once(made: Path) -> None:
    files = [pairs.torch_path(made, "unet"), pairs.tf_path(made, "unet") / "saved_model.pb"]
    files += [
        pairs.tf_path(made, "lenet_to_torch"),
        pairs.torch_path(made, "lenet_to_torch") / "model.safetensors",
    ]
    times = [each.stat().st_mtime_ns for each in files]
    pairs.build(made, ["unet", "lenet_to_torch"])
    assert [each.stat().st_mtime_ns for each in files] == times


def test_build_replaces_what_an_older_definition_made(made: Path) -> None:
    stamp = made / "unet" / ".made-by"
    stamp.write_text("of an older definition")
    before = pairs.torch_path(made, "unet").stat().st_mtime_ns
    pairs.build(made, ["unet"])
    assert pairs.torch_path(made, "unet").stat().st_mtime_ns > before
    assert stamp.read_text() != "of an older definition"


def test_source_and_target_follow_the_direction(made: Path) -> None:
    assert pairs.source_path(made, "unet") == made / "unet" / "model.pt2"
    assert pairs.target_path(made, "unet") == made / "unet" / "saved_model"
    assert pairs.source_path(made, "lenet_to_torch") == made / "lenet_to_torch" / "model.keras"
    assert pairs.target_path(made, "lenet_to_torch") == made / "lenet_to_torch" / "converted"


def test_both_sides_of_a_hand_written_pair_are_equivalent(made: Path) -> None:
    source = resolve(pairs.source_path(made, "unet"), as_target=False)
    target = resolve(pairs.target_path(made, "unet"), as_target=True)
    with Session(source, target, threads=1, timeout=120) as session:
        report = session.verify(Checks(seed=3))
    assert report.verdict == "equivalent", report.reasons
    assert [output.varies for output in report.outputs] == [True]
