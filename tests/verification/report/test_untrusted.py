"""Names from files, made fit to be shown."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bridge.verification.report.untrusted import escaped, lines, printable, shortened

_TEXT = st.text(st.characters())


@given(_TEXT)
def test_every_character_can_be_seen(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn") for each in shown)
    shown.encode("utf-8")
    assert len(shown) <= 10 * 202


@given(_TEXT)
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    plain = "".join(each for each in text if each.isprintable())
    assert escaped(plain) == plain


@given(st.lists(_TEXT))
def test_lines_are_lines(texts: list[str]) -> None:
    for line in lines("\n".join(texts)):
        assert "\n" not in line
        assert max(map(len, line.split()), default=0) <= 10 * 202


def test_control_characters_are_spelled_as_in_python() -> None:
    assert escaped("a\nb\x1b[0m\u202e\U000e0001") == "a\\nb\\x1b[0m\\u202e\\U000e0001"
    assert escaped("größe_层.重み") == "größe_层.重み"


def test_the_middle_of_a_long_name_is_left_out() -> None:
    assert shortened("a" * 100 + "b" * 100) == "a" * 100 + "b" * 100
    assert shortened("a" * 5000 + "b" * 5000, 10) == "aaaa … bbbb"
    assert lines("the weight " + "a" * 9000 + " differs") == [f"the weight {'a' * 99} … {'a' * 99} differs"]
