"""The sanitiser: whatever a model calls its parts, the emitted file gets plain identifiers."""

import ast
import keyword

from hypothesis import given
from hypothesis import strategies as st

from bridge.emit import names

HOSTILE = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        [
            "self", "class", "None", "print", "__init__", "__class__", "x\ny", "a.b", "a/b", "0", "007",
            'x"); import os; os.system("id") #', "'''", '"""', "\\", "\u0430", "ﬁeld", "ªb", "été", "match",
            "lambda: 0", "名前", "_", "", " ", "a" * 500, "torch", "\x00", "\u202e",
        ]
    ),
)  # fmt: skip


@given(HOSTILE)
def test_identifier_is_plain_and_bindable(text: str) -> None:
    name = names.identifier(text)
    assert name.isascii()
    assert name.isidentifier()
    assert not keyword.iskeyword(name)
    assert name not in names.RESERVED
    assert not name.startswith("__")
    tree = ast.parse(f"{name} = 1")
    assert isinstance(tree.body[0], ast.Assign)
    assert len(tree.body) == 1


@given(HOSTILE, st.sets(HOSTILE, max_size=5))
def test_identifier_avoids_reserved_names(text: str, reserved: set[str]) -> None:
    assert names.identifier(text, reserved=reserved) not in reserved


@given(HOSTILE)
def test_class_name_is_camel_case(text: str) -> None:
    name = names.class_name(text)
    assert name.isidentifier()
    assert name[0].isupper() or not name[0].isalpha()


@given(st.lists(HOSTILE, max_size=20))
def test_namespace_never_gives_a_name_twice(texts: list[str]) -> None:
    namespace = names.Namespace()
    given_names = [namespace.claim(names.identifier(text)) for text in texts]
    assert len(set(given_names)) == len(given_names)


def test_names_that_are_fine_stay() -> None:
    assert names.identifier("conv1") == "conv1"
    assert names.identifier("block_1_expand_BN") == "block_1_expand_BN"
    assert names.class_name("InvertedResidual") == "InvertedResidual"
    assert names.class_name("basic_block") == "BasicBlock"
    assert names.snake_case("GlobalAveragePool") == "global_average_pool"
