from __future__ import annotations

from pathlib import Path

import pytest

from bridge.verification.suite import Pair
from bridge.verification.suite.identity import file_hashes, identity, model_hash


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "graph.pb").write_text("graph")
    (tmp_path / "a.pt2").write_text("a")
    (tmp_path / "x.npz").write_text("x")
    (tmp_path / "nets.py").write_text("import layers\n")
    (tmp_path / "layers.py").write_text("one = 1\n")
    return tmp_path


def pair(**options: object) -> Pair:
    return Pair("name", "a.pt2", "saved", {"seed": 1, **options})


def test_everything_that_a_result_depends_on_changes_it(directory: Path) -> None:
    first = pair(inputs=["x.npz"], custom_objects="nets", depends=["saved"])
    before = identity(first, directory)
    assert identity(first, directory) == before
    seen = {before}
    for change in (
        lambda: (directory / "a.pt2").write_text("b"),
        lambda: (directory / "saved" / "graph.pb").write_text("another"),
        lambda: (directory / "saved" / "more").write_text(""),
        lambda: (directory / "x.npz").write_text("y"),
        lambda: (directory / "layers.py").write_text("one = 2\n"),
    ):
        change()
        seen.add(identity(first, directory))
    assert len(seen) == 6
    assert (
        identity(pair(inputs=["x.npz"], custom_objects="nets", depends=["saved"], seed=2), directory)
        not in seen
    )


def test_only_what_is_named_counts(directory: Path) -> None:
    before = identity(pair(), directory)
    (directory / "x.npz").write_text("y")
    (directory / "saved" / "__pycache__").mkdir()
    (directory / "saved" / "x.pyc").write_text("")
    assert identity(pair(), directory) == before
    assert set(file_hashes(pair(repro="nets.py"), directory)) == {"a.pt2", "saved/graph.pb"}
    assert set(file_hashes(Pair("n", "nets:build", "a.pt2"), directory)) == {"a.pt2", "nets.py", "layers.py"}


def test_another_python_counts_by_its_packages(directory: Path) -> None:
    old = directory / "old" / "lib" / "python3.8" / "site-packages"
    (old / "tensorflow-2.4.0.dist-info").mkdir(parents=True)
    (directory / "old" / "bin").mkdir()
    (directory / "old" / "bin" / "python").write_text("")
    before = identity(pair(source_python="old"), directory)
    by_program = identity(pair(source_python="old/bin/python"), directory)
    (old / "numpy-1.19.5.dist-info").mkdir()
    assert identity(pair(source_python="old"), directory) != before
    assert identity(pair(source_python="old/bin/python"), directory) != by_program
    assert not any("old" in file for file in file_hashes(pair(source_python="old"), directory))


def test_a_model_has_one_hash(directory: Path) -> None:
    assert model_hash("saved", directory) == model_hash("saved/", directory)
    assert model_hash("saved", directory) != model_hash("a.pt2", directory)
    assert model_hash("nothing", directory) is None
