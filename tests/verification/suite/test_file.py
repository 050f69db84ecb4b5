from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from bridge import api
from bridge.errors import InputError
from bridge.verification.suite import Pair, read_suite
from bridge.verification.suite.lines import table_lines
from bridge.verification.suite.options import known_options, wrong_key, wrong_value

GOOD = """
[defaults]
seed = 3
timeout = 30

[[pair]]
name = "text"
source = "a.onnx"
target = "b.onnx"

[[pair]]
name = "image"
source = "nets:build"
target = "out/"
seed = 4            # over the default
batches = [1, 8]
inputs = ["x.npz", "y.npz"]
depends = ["vocabulary.txt"]
"""

BAD = """[default]
seed = 1
[defaults]
sed = 3
source = "x"
map_inputs = "a"
[[pair]]
name = "one"
source = "x"
gradients = "yes"
batches = [
  1, # the first
  0,
]
train = 3
[[pair]]
name = "one"
source = " "
target = 3
map-outputs = '''
[[pair]]
a=b
'''
dtype = "float8"
inputs = []
training = true
timeout = 0
"""


def written(directory: Path, text: str) -> Path:
    file = directory / "suite.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_pairs_have_their_own_options_over_the_defaults(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, GOOD))
    assert suite.directory == tmp_path
    assert suite.pairs == (
        Pair("text", "a.onnx", "b.onnx", {"seed": 3, "timeout": 30}),
        Pair(
            "image",
            "nets:build",
            "out/",
            {
                "seed": 4,
                "timeout": 30,
                "batches": [1, 8],
                "inputs": ["x.npz", "y.npz"],
                "depends": ["vocabulary.txt"],
            },
        ),
    )


def test_every_problem_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_suite(written(tmp_path, BAD))
    lines = caught.value.message.splitlines()
    assert lines[0] == f"{len(lines) - 1} problems:"
    expected = [
        (1, "there is no table default"),
        (4, "no option sed: did you mean seed?"),
        (5, "source belongs into a [[pair]]"),
        (6, "'a' does not say which tensor is which"),
        (7, "no target"),
        (8, "'one' is given twice"),
        (10, 'gradients is true or false, not "yes"'),
        (11, "at least 1"),
        (15, "no option train: did you mean training?"),
        (17, "'one' is given twice"),
        (18, "source is empty"),
        (19, "target is a text, not 3"),
        (20, "no option map-outputs: did you mean map_outputs?"),
        (24, 'dtype is "float16" or "bfloat16", not "float8"'),
        (25, "not an empty list"),
        (26, "training is a whole number, not true"),
        (27, "more than 0"),
    ]
    assert len(lines) - 1 == len(expected)
    for line, (number, text) in zip(lines[1:], expected, strict=True):
        assert line.startswith(f"  line {number}: ")
        assert text in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no [[pair]]"),
        ("[[pair]]\nname = ", "not TOML"),
        ("pair = 3\n", "pair is not a list of tables"),
        ("defaults = 3\n", "defaults is not a table"),
        ("pair = [{name = 'a', source = 'b'}]\n", "line 1: the pair has no target"),
        ("[pair]\nname = 'a'\n", "pair is not a list of tables"),
    ],
)
def test_a_file_that_is_no_suite(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_suite(written(tmp_path, text))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_suite(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe4'")
    with pytest.raises(InputError, match="UTF-8"):
        read_suite(tmp_path / "latin.toml")


def test_pairs_are_chosen_by_name_and_pattern(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, GOOD))
    assert [each.name for each in suite.only(["im*"]).pairs] == ["image"]
    assert [each.name for each in suite.only(["image", "text"]).pairs] == ["text", "image"]
    with pytest.raises(InputError, match="did you mean image"):
        suite.only(["imag"])


def test_every_option_of_verify_is_one_of_a_pair() -> None:
    from bridge.settings import SettingArguments

    signature = inspect.signature(api.verify).parameters
    names = {name for name, each in signature.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}
    parameters = (names | set(SettingArguments.__annotations__)) - {"source", "target", "on_progress"}
    assert set(known_options()) == parameters | {"depends"}
    for name in parameters:
        assert wrong_key(name, in_pair=True) is None
        default = signature[name].default if name in signature else None
        if isinstance(default, bool | int | str):
            assert wrong_value(name, default) is None, name
    assert wrong_value("source_python", "../old") is None
    assert "float16" in str(wrong_value("autocast", "float8"))


def test_lines_of_values_that_span_several() -> None:
    text = 'a = """\n[b]\nc = 1\n"""\n[d]  # x\ne = [\n 1,\n\n 2 ]\n"f g" = 2\n[[h]]\ni.j = 1\n'
    assert [(each.name, each.line, each.keys) for each in table_lines(text)] == [
        ("", 1, {"a": 1}),
        ("d", 5, {"e": 6, "f g": 10}),
        ("h", 11, {"i": 12}),
    ]
