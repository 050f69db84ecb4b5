"""The page: valid, self-contained, accessible as far as can be told without a browser, and safe.

scripts/proof/pages.py holds it against a validator, axe and a browser.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import html5lib
import pytest
from examples import DIFFERENT, EQUIVALENT, HOSTILE, MEASURED, REPORTS, SUITE, TRAINED, hostile, huge

from bridge.verification.report import html as pages
from bridge.verification.report.html.page import render, render_suite
from bridge.verification.report.html.plots import Plots

_CSS = Path(pages.__file__).with_name("templates") / "page.css"


def _parsed(text: str) -> Any:
    """The page as a tree. Raises ParseError for the slightest mistake."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(text)


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return {**{name: render(report) for name, report in REPORTS.items()}, "suite": render_suite(SUITE)}


@pytest.mark.parametrize("name", [*REPORTS, "suite"])
def test_pages_are_valid(name: str, rendered: dict[str, str]) -> None:
    page = _parsed(rendered[name])
    identifiers = [each.get("id") for each in page.iter() if each.get("id")]
    assert len(identifiers) == len(set(identifiers))
    for each in page.iter():
        for attribute, value in each.attrib.items():
            if attribute in ("aria-labelledby", "for", "data-tree"):
                assert set(value.split()) <= set(identifiers)
            if attribute == "href":
                assert value.startswith("#"), "nothing leads out of the page"
                assert value[1:] in identifiers


@pytest.mark.parametrize("name", [*REPORTS, "suite"])
def test_pages_load_nothing(name: str, rendered: dict[str, str]) -> None:
    page = _parsed(rendered[name])
    tags = {each.tag for each in page.iter()}
    assert not tags & {"link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "image"}
    assert not any("src" in each.attrib or "srcset" in each.attrib for each in page.iter())
    (style,) = page.iter("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    (script,) = page.iter("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    policy = next(each for each in page.iter("meta") if each.get("http-equiv"))
    assert policy.get("content").startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy.get("content")


@pytest.mark.parametrize("name", [*REPORTS, "suite"])
def test_pages_can_be_read_without_seeing_them(name: str, rendered: dict[str, str]) -> None:
    page = _parsed(rendered[name])
    assert page.get("lang") == "en"
    assert len(list(page.iter("main"))) == len(list(page.iter("h1"))) == 1
    levels = [int(each.tag[1]) for each in page.iter() if re.fullmatch("h[1-6]", str(each.tag))]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for svg in page.iter("{http://www.w3.org/2000/svg}svg"):
        assert svg.get("role") == "img"
        words = [each.text for each in svg if str(each.tag).rpartition("}")[2] in ("title", "desc")]
        assert len(words) == 2
        assert all(words)
    for table in page.iter("table"):
        assert all(each.get("scope") in ("col", "row") for each in table.iter("th"))
    for each in page.iter("input"):
        assert any(label.get("for") == each.get("id") for label in page.iter("label"))
    regions = [each.get("aria-label") for each in page.iter() if each.get("role") == "region"]
    assert len(regions) == len(set(regions))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(name: str) -> None:
    text = render(hostile(name))
    page = _parsed(text)
    assert len(list(page.iter("script"))) == 1
    assert not any(each.startswith("on") for element in page.iter() for each in element.attrib)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\ud800]", text)
    assert "49" not in "".join(each.text or "" for each in page.iter("h1"))
    visible = "".join(page.itertext())
    assert name[:20].split("\n")[0].strip("\x00\x1b\ud800").split("\x1b")[0][:10] in visible


def test_the_verdict_comes_first() -> None:
    text = "".join(_parsed(render(EQUIVALENT)).find(".//main").itertext())
    sentence = "The two versions of this model compute the same: 2 outputs agree within rounding on 1 set"
    assert 0 < text.index("✓ Equivalent") < text.index(sentence) < 200


def test_a_limit_that_is_not_kept_is_no_difference_of_results() -> None:
    text = "".join(_parsed(render(MEASURED)).itertext())
    assert "✗ Beyond a limit" in text
    assert "compute the same, but the target takes more time or memory than was allowed" in text
    assert "1.28 to 1.35" in text


def test_differences_are_named_with_their_place_on_both_sides() -> None:
    text = "".join(_parsed(render(DIFFERENT)).itertext())
    for each in (
        "the first wrong value is that of Gelu act in body (model.py:13)",
        "net.py:7",
        "first wrong node",
    ):
        assert each in text


def test_both_names_of_a_weight_are_in_the_tree() -> None:
    page = _parsed(render(EQUIVALENT))
    tree = next(each for each in page.iter() if each.get("id") == "tree")
    (leaf,) = [
        each
        for each in tree.iter("li")
        if "body.conv.weight" in "".join(each.itertext()) and not each.find("details") is not None
    ]
    assert "".join(leaf.itertext()).split() == [
        "kernel",
        "3",
        "x",
        "3",
        "x",
        "3",
        "x",
        "8",
        "float32",
        "←",
        "body.conv.weight",
        "(transpose)",
    ]


def test_a_huge_model_gives_a_usable_page() -> None:
    report = huge()
    started = time.process_time()
    text = render(report)
    assert time.process_time() - started < 20
    assert len(text) < 2_500_000
    page = _parsed(text)
    assert 5 < len(list(page.iter("{http://www.w3.org/2000/svg}svg"))) < 20

    # What is not folded is what somebody sees: a few hundred elements.
    def seen(element: Any) -> int:
        return 1 + sum(seen(each) for each in element if element.tag != "details" or each.tag == "summary")

    main = page.find(".//main")
    assert seen(main) < 6000
    assert sum("out" in "".join(each.itertext()) for each in main.iter("tr")) >= 500


def test_plots_take_their_colours_from_the_page() -> None:
    text = render(TRAINED)
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert drawings
    assert not re.findall(r"#[0-9a-f]{6}\b", drawings)
    assert "currentColor" in drawings
    assert "var(--target)" in drawings


def test_without_matplotlib_there_are_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not Plots().available
    text = render(TRAINED)
    assert "<svg" not in text
    assert "There are tables only" in text
    assert "0.3000000001" in text


def test_equal_reports_give_equal_pages() -> None:
    assert render(DIFFERENT) == render(DIFFERENT)


def test_a_suite_shows_its_table_first_and_folds_the_pairs() -> None:
    page = _parsed(render_suite(SUITE))
    rows = ["".join(each.itertext()) for each in next(page.iter("tbody")).iter("tr")]
    assert [
        row.strip().startswith(name)
        for row, name in zip(rows, ("right", "wrong <b>", "crashed", "slower"), strict=True)
    ] == [True] * 4
    pairs = [each for each in page.iter("details") if each.get("class") == "card pair"]
    assert len(pairs) == 4
    assert not any("open" in each.attrib for each in pairs)
    assert "Worse than the baseline" in "".join(pairs[3].itertext())
    assert "Segmentation fault" in "".join(pairs[2].itertext())


def _tokens(css: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})\b", css))


def _luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    channels = [int(colour[position : position + 2], 16) / 255 for position in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["page", "raised"])
def test_contrasts_are_enough(scheme: str, ground: str) -> None:
    light, _, rest = _CSS.read_text(encoding="utf-8").partition("@media (prefers-color-scheme: dark)")
    tokens = _tokens(light) if scheme == "light" else {**_tokens(light), **_tokens(rest)}
    for name in ("ink", "muted", "link", "good", "bad", "open"):
        assert _contrast(tokens[name], tokens[ground]) >= 4.5, name
    for name in ("source", "target", "limit"):
        assert _contrast(tokens[name], tokens[ground]) >= 3.0, name
