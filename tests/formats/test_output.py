import os
from pathlib import Path

import pytest

from bridge.errors import OutputError
from bridge.formats.output import atomic_output, check_output


def tree(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def fill(directory: Path) -> None:
    directory.mkdir()
    (directory / "model.py").write_text("new")
    (directory / "weights.json").write_text("{}")


def fail_while_writing(output: Path, failure: BaseException) -> None:
    with atomic_output(output) as temporary:
        fill(temporary)
        raise failure


def test_a_file_and_a_directory_appear_whole(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "deep" / "a.onnx") as temporary:
        assert temporary.name == "a.onnx"
        temporary.write_text("model")
        assert not (tmp_path / "deep" / "a.onnx").exists()
    with atomic_output(tmp_path / "out") as temporary:
        fill(temporary)
        assert not (tmp_path / "out").exists()
    assert tree(tmp_path) == ["deep", "deep/a.onnx", "out", "out/model.py", "out/weights.json"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_happens_nothing_is_left(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure):
        fail_while_writing(tmp_path / "new" / "deeper" / "out", failure())
    assert tree(tmp_path) == []


def test_a_directory_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="x"), atomic_output(tmp_path / "there" / "out"):
        raise ValueError("x")
    assert tree(tmp_path) == ["there"]


def test_an_existing_output_needs_force(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("old")
    with pytest.raises(OutputError, match="exists already") as caught, atomic_output(tmp_path / "a.onnx"):
        pass
    assert "--force" in str(caught.value.hint)
    with atomic_output(tmp_path / "a.onnx", force=True) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.onnx").read_text() == "new"


def test_force_replaces_a_model_and_a_failure_keeps_the_old_one(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    (tmp_path / "out" / "old").write_text("")
    with pytest.raises(ValueError, match="x"), atomic_output(tmp_path / "out", force=True):
        raise ValueError("x")
    assert "old" in tree(tmp_path / "out")
    with atomic_output(tmp_path / "out", force=True) as temporary:
        fill(temporary)
    assert tree(tmp_path) == ["out", "out/model.py", "out/weights.json"]


def test_force_does_not_replace_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="something other than a converted model"):
        check_output(tmp_path / "project", force=True)


def test_an_empty_directory_is_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_output(tmp_path / "out") as temporary:
        fill(temporary)
    assert tree(tmp_path / "out") == ["model.py", "weights.json"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "out")


@pytest.mark.parametrize(
    ("output", "source"), [("m.pt", "m.pt"), ("sm/out", "sm"), ("sm", "sm/saved_model.pb")]
)
def test_source_and_output_lie_apart(tmp_path: Path, output: str, source: str) -> None:
    (tmp_path / "sm").mkdir()
    with pytest.raises(OutputError, match="overlap"):
        check_output(tmp_path / output, force=True, source=tmp_path / source)
    check_output(tmp_path / "m_tf", source=tmp_path / "m.pt")


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written to"):
        check_output(tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="cannot be written to"):
        check_output(tmp_path / "locked" / "out")


def test_a_failing_disk_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"):
        fail_while_writing(tmp_path / "out", OSError(28, "No space left on device"))
    assert tree(tmp_path) == []
