"""The plots of a page: SVG that takes its colours from the page, and so follows light and dark.

No text of a model enters a plot. Each says in words what it shows, and the page has its numbers as a table.
"""

from __future__ import annotations

import importlib.util
import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from bridge.verification.compare import Errors
from bridge.verification.gradients import GradientsResult
from bridge.verification.histogram import Histogram
from bridge.verification.quantities import duration, number, size
from bridge.verification.report.depth import Depth
from bridge.verification.speed import SpeedResult, SpeedRow
from bridge.verification.training import TrainingResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.0, 3.2
"""Inches of 72 units each: on a phone a unit is a little less than a pixel."""
_INK, _GRID, _SOURCE, _TARGET, _LIMIT = "#010101", "#020202", "#030303", "#040404", "#050505"
"""Colours that stand for those of the page."""
_COLOURS = {
    _INK: "currentColor",
    _GRID: "var(--grid)",
    _SOURCE: "var(--source)",
    _TARGET: "var(--target)",
    _LIMIT: "var(--limit)",
}
_STYLE: dict[str, Any] = {
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 13,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 13,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "bridge",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FLOOR = 1e-17
"""Where an error of zero is drawn on a logarithmic axis."""
_MARKED = 60
"""How many points at most are drawn as points, too."""


@dataclass(frozen=True)
class Plot:
    """A drawing as SVG, its title, and what it shows in words."""

    svg: Markup
    title: str
    description: str


class Plots:
    """Draws plots for one page; the identifiers inside them differ from plot to plot."""

    def __init__(self) -> None:
        self._drawn = 0

    @property
    def available(self) -> bool:
        """Whether matplotlib is installed."""
        return importlib.util.find_spec("matplotlib") is not None

    def errors(self, errors: Errors) -> Plot | None:
        """How the errors of the elements of one output are distributed."""
        found = errors.histogram
        if found is None or not found.target:
            return None
        description = _histogram_words(found, errors)

        def draw(axes: Axes) -> None:
            total = max(sum(found.target) + found.target_exact, 1)
            edges = found.edges
            axes.set_xscale("log")
            if found.source:
                axes.stairs(
                    [100 * count / total for count in found.source],
                    edges,
                    color=_SOURCE,
                    fill=True,
                    alpha=0.35,
                    label="source",
                )
            axes.stairs(
                [100 * count / total for count in found.target],
                edges,
                color=_TARGET,
                linewidth=2,
                label="target",
            )
            if errors.tolerance_max:
                axes.axvline(
                    errors.tolerance_max, color=_LIMIT, linestyle="--", linewidth=2, label="tolerance"
                )
            axes.set_xlabel("error of an element, relative")
            axes.set_ylabel("elements, %")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=3)

        return self._plot("Errors of single elements", description, draw)

    def depth(self, depth: Depth) -> Plot | None:
        """How far the values inside are apart, from the inputs to the outputs."""
        series = [
            ("between the two, in float64", _INK, "-", [each.function for each in depth.points]),
            ("rounding of the source", _SOURCE, "--", [each.source_error for each in depth.points]),
            ("rounding of the target", _TARGET, ":", [each.target_error for each in depth.points]),
        ]
        series = [each for each in series if any(value is not None for value in each[3])]
        if not series:
            return None
        positions = [each.position for each in depth.points]
        description = _depth_words(depth)

        def draw(axes: Axes) -> None:
            axes.set_yscale("log")
            for label, colour, line, values in series:
                shown = [
                    math.nan if value is None or math.isinf(value) else max(value, _FLOOR) for value in values
                ]
                marker = "o" if len(shown) <= _MARKED else ""
                axes.plot(
                    positions,
                    shown,
                    color=colour,
                    linestyle=line,
                    linewidth=1.8,
                    marker=marker,
                    markersize=4,
                    label=label,
                )
            if depth.first_wrong is not None:
                axes.axvline(
                    depth.first_wrong, color=_LIMIT, linestyle="--", linewidth=2, label="the first wrong node"
                )
            axes.set_xlabel("operation, in the order of computation")
            axes.set_ylabel("relative distance")
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)

        return self._plot("Distance along the depth of the network", description, draw, height=3.9)

    def gradients(self, gradients: GradientsResult) -> Plot | None:
        """The error of every gradient."""
        errors = [each.error for each in gradients.tensors if each.error is not None]
        if not errors:
            return None
        finite = [error for error in errors if math.isfinite(error)]
        description = (
            f"Relative errors of {len(errors)} gradients in float64, the largest "
            f"{number(max(finite, default=math.inf))}; at most {number(gradients.tolerance)} is tolerated."
        )

        def draw(axes: Axes) -> None:
            axes.set_yscale("log")
            shown = [max(error, _FLOOR) if math.isfinite(error) else math.nan for error in errors]
            axes.plot(
                range(1, len(shown) + 1),
                shown,
                "o",
                color=_TARGET,
                markersize=5 if len(shown) <= _MARKED else 2,
                label="gradient",
            )
            axes.axhline(gradients.tolerance, color=_LIMIT, linestyle="--", linewidth=2, label="tolerance")
            axes.set_xlabel("tensor, in the order of the table")
            axes.set_ylabel("relative error")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)

        return self._plot("Errors of the gradients", description, draw)

    def losses(self, training: TrainingResult) -> Plot | None:
        """The losses of both sides, step by step."""
        if not training.source_losses or not training.target_losses:
            return None
        ours, theirs = training.source_losses, training.target_losses
        description = (
            f"The loss goes from {ours[0]:.4g} to {ours[-1]:.4g} in the source and from {theirs[0]:.4g} to "
            f"{theirs[-1]:.4g} in the target."
        )

        def draw(axes: Axes) -> None:
            from matplotlib.ticker import MaxNLocator

            axes.plot(range(1, len(ours) + 1), ours, color=_SOURCE, linewidth=5, alpha=0.45, label="source")
            axes.plot(
                range(1, len(theirs) + 1), theirs, color=_TARGET, linewidth=1.8, marker="o", label="target"
            )
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("training step")
            axes.set_ylabel("loss")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)

        return self._plot("Losses", description, draw)

    def latency(self, row: SpeedRow) -> Plot | None:
        """How the times of single calls are distributed on both sides."""
        sides = [
            (name, side, colour, fill)
            for name, side, colour, fill in (
                ("source", row.source, _SOURCE, True),
                ("target", row.target, _TARGET, False),
            )
            if side is not None and side.samples
        ]
        if not sides:
            return None
        words = [
            f"the {name} {duration(side.median.value)} (95 % of the calls below {duration(side.p95)})"
            for name, side, _, _ in sides
        ]
        description = f"Median time of a call: {', '.join(words)}."

        def draw(axes: Axes) -> None:
            import numpy as np

            samples = np.concatenate([np.asarray(side.samples) for _, side, _, _ in sides]) * 1e3
            longest = float(np.quantile(samples, 0.99)) * 1.05
            edges = np.linspace(float(samples.min()) * 0.98, longest, 41)
            for name, side, colour, fill in sides:
                counts, _ = np.histogram(np.clip(np.asarray(side.samples) * 1e3, None, longest), edges)
                shares = 100 * counts / len(side.samples)
                alpha = 0.35 if fill else 1.0
                axes.stairs(shares, edges, color=colour, fill=fill, alpha=alpha, linewidth=2, label=name)
                axes.axvline(side.median.value * 1e3, color=colour, linestyle="--", linewidth=1.5)
            axes.set_xlabel("milliseconds a call (dashed: median)")
            axes.set_ylabel("calls, %")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)

        return self._plot(f"Time of a call: {row.label}", description, draw)

    def memory(self, speed: SpeedResult) -> Plot | None:
        """The most memory that each side took, row by row."""
        rows = [
            (row.label, row.memory.source, row.memory.target)
            for row in speed.rows
            if row.memory.source is not None and row.memory.target is not None
        ]
        if not rows:
            return None
        told = [f"{label}: {size(ours.counted)} and {size(theirs.counted)}" for label, ours, theirs in rows]
        description = f"The most memory of source and target, beyond their frameworks': {'; '.join(told)}."

        def draw(axes: Axes) -> None:
            places = range(len(rows))
            for offset, colour, name, values in (
                (-0.2, _SOURCE, "source", [ours.counted for _, ours, _ in rows]),
                (0.2, _TARGET, "target", [theirs.counted for _, _, theirs in rows]),
            ):
                mebibytes = [value / 2**20 for value in values]
                axes.barh([place + offset for place in places], mebibytes, 0.36, color=colour, label=name)
            axes.set_yticks(list(places), [label for label, _, _ in rows])
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
            axes.set_xlabel("MiB")
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

        return self._plot("Memory", description, draw, height=1.6 + 0.45 * len(rows))

    def _plot(
        self, title: str, description: str, draw: Callable[[Axes], None], height: float = _HEIGHT
    ) -> Plot | None:
        if not self.available:
            return None
        self._drawn += 1
        with _styled() as figure_of:
            figure = figure_of(figsize=(_WIDTH, height))
            axes = figure.add_subplot()
            draw(axes)
            for axis in (axes.xaxis, axes.yaxis):
                if axis.get_scale() == "log":
                    _label_powers(axis)
            text = io.StringIO()
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(text, format="svg", transparent=True, metadata=nothing)
        return Plot(_embedded(text.getvalue(), f"plot{self._drawn}", title, description), title, description)


@contextmanager
def _styled() -> Iterator[Callable[..., Figure]]:
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(_STYLE):
        yield Figure


def _label_powers(axis: Any) -> None:
    """Label powers of ten as 1e-7, and no more of them than are readable."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_power))


def _power(value: float, _position: int | None = None) -> str:
    if value <= _FLOOR:
        return "0"
    exponent = round(math.log10(value))
    return f"1e{exponent}" if exponent else "1"


def _embedded(svg: str, prefix: str, title: str, description: str) -> Markup:
    """An SVG document as an element of the page, with its words, and identifiers of its own."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    referred = set(re.findall(r"#([\w.-]+)", ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        known = element.attrib.pop("id", None)
        if known in referred:
            element.set("id", f"{prefix}-{known}")
        for key, value in list(element.attrib.items()):
            element.set(key, re.sub(r"#(?=[\w.-]+)", f"#{prefix}-", value) if _refers(key, value) else value)
        _modernise(element)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-words")
    for position, (tag, identifier, text) in enumerate(
        (("title", f"{prefix}-title", title), ("desc", f"{prefix}-words", description))
    ):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", id=identifier)
        element.text = text
        root.insert(position, element)
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, meant in _COLOURS.items():
        text = text.replace(colour, meant)
    # What was parsed above is matplotlib's, and the two texts were escaped by the XML writer.
    return Markup(text)


def _refers(key: str, value: str) -> bool:
    return key in ("href", f"{{{_XLINK}}}href") or value.startswith("url(#")


def _modernise(element: ElementTree.Element) -> None:
    """HTML has no namespaces: `href` is how it spells `xlink:href`."""
    reference = element.attrib.pop(f"{{{_XLINK}}}href", None)
    if reference is not None:
        element.set("href", reference)


def _histogram_words(found: Histogram, errors: Errors) -> str:
    total = max(sum(found.target) + found.target_exact, 1)
    text = (
        f"Relative errors of {total:,} elements at {errors.rule} inputs. The largest of the target is "
        f"{number(errors.target_max)}"
    )
    if errors.source_max is not None:
        text += f", of the source {number(errors.source_max)}"
    if errors.tolerance_max is not None:
        text += f", and {number(errors.tolerance_max)} is tolerated"
    if found.target_exact:
        text += f"; {100 * found.target_exact / total:.3g} % of the target's have no error at all"
    return f"{text}."


def _depth_words(depth: Depth) -> str:
    known = [each.function for each in depth.points if each.function is not None]
    finite = [value for value in known if math.isfinite(value)]
    text = f"{len(depth.points)} values inside the target have a counterpart in the source."
    if finite:
        text += f" In float64 they are at most {number(max(finite))} apart."
    if len(finite) < len(known):
        text += f" {len(known) - len(finite)} have another shape or hold NaN or infinities elsewhere."
    return text
