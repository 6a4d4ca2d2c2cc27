"""Matplotlib figures whose bytes depend on their numbers alone."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from stages.reporting.collected import ORACLE, REFERENCES, UNEDITED
from stages.reporting.numbers import Number

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLOURS = ("#c4512d", "#2a7fb8", "#2f9e6e", "#b5609c", "#c08a1e", "#7a6bc2", "#5c8f2a", "#3a9ca6", "#a0522d", "#d1477a")
MARKERS = {"o": "●", "^": "▲", "D": "◆", "v": "▼", "s": "■", "P": "✚", "X": "✖", "<": "◀", ">": "▶"}  # and as text
INK, MUTED, FAINT, PAPER = "#231f1a", "#6e675d", "#dcd6c9", "#ffffff"
THEME = {INK: "var(--ink)", MUTED: "var(--muted)", FAINT: "var(--line)", PAPER: "var(--paper)"}
LONG = 28  # characters of a method's name, of which a legend has no room for two beside each other
RC: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": FAINT,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Style:
    """The looks of one method, the same in every figure and table."""

    colour: str
    marker: str  # of Matplotlib
    glyph: str  # the marker as text
    hollow: bool = False  # whether the marker is an outline


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """A colour and a marker for each method; the two references look the same in every study."""
    marks = list(MARKERS.items())
    looks = {UNEDITED: Style(MUTED, "o", "○", hollow=True), ORACLE: Style(MUTED, "*", "★")}
    for number, method in enumerate(method for method in methods if method not in REFERENCES):
        looks[method] = Style(COLOURS[number % len(COLOURS)], *marks[number % len(marks)])
    return {method: looks[method] for method in methods}


def tradeoff(points: Mapping[str, tuple[Number, Number]], concept: str, retained: str) -> Figure:
    """Erasure against preservation, `points[method]` = (concept rate, preservation rate), each with its interval.

    Dashed lines mark the references: how well the unedited model does on retained prompts, how far the oracle erases.
    """
    columns = 1 if max(map(len, points)) > LONG else 2
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.3, 4.2 + 0.2 / columns * len(points)), layout="constrained")
        axes = figure.add_subplot()
        if UNEDITED in points:
            axes.axhline(points[UNEDITED][1].value, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if ORACLE in points:
            axes.axvline(1 - points[ORACLE][0].value, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        for method, style in styles(list(points)).items():
            _point(axes, *points[method], style, _reference_label(method, concept))
        _percent_axes(axes, [retained for _, retained in points.values()])
        axes.set_xlabel(f"erasure: {concept} prompts that no longer show it")
        axes.set_ylabel(f"preservation: {retained}")
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, handletextpad=0.2)
    return figure


def _reference_label(method: str, concept: str) -> str:
    return {UNEDITED: "none (the unedited model)", ORACLE: f"oracle (never saw {concept})"}.get(method, method)


def _point(axes: Axes, shown: Number, retained: Number, style: Style, label: str) -> None:
    x, y = 1 - shown.value, retained.value
    spans = np.nan_to_num([[x - (1 - shown.high), (1 - shown.low) - x], [y - retained.low, retained.high - y]]).clip(
        min=0
    )
    axes.errorbar(
        [x],
        [y],
        xerr=spans[0][:, None],
        yerr=spans[1][:, None],
        fmt=style.marker,
        label=label,
        color=style.colour,
        markerfacecolor=PAPER if style.hollow else style.colour,
        markersize=11 if style.marker == "*" else 7,
        elinewidth=1.1,
        capsize=2,
        zorder=2 if style.colour == MUTED else 3,
    )


def _percent_axes(axes: Axes, retained: Sequence[Number]) -> None:
    lowest = min((number.value if np.isnan(number.low) else number.low) for number in retained)
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(max(-0.04, min(0.89, lowest - 0.04)), 1.01)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(True)
    axes.set_axisbelow(True)


@dataclass(frozen=True)
class Panel:
    """One method's losses."""

    title: str
    style: Style
    lines: Sequence[tuple[Sequence[float], Sequence[float]]]  # (steps, losses) of each seed


def loss_curves(panels: Sequence[Panel], columns: int = 3) -> Figure:
    """A panel per method, since their losses have no common scale, and a line per seed."""
    wide = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(2.6 * wide + 0.4, 1.9 * rows + 0.3), layout="constrained")
        places = figure.subplots(rows, wide, squeeze=False).flatten()
        for panel, axes in zip(panels, places, strict=False):
            for steps, losses in panel.lines:
                axes.plot(steps, losses, color=panel.style.colour, linewidth=1.1, alpha=0.75)
            axes.set_title(panel.title)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.grid(True)
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel("training step", fontsize=10)
        figure.supylabel("loss", fontsize=10)
    return figure


def heat_maps(
    panels: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_label: str = "layer",
    column_label: str = "scale",
) -> Figure:
    """Matrices of rates (rows, columns) side by side, written in percent, such as of layers and scales.

    ValueError for a matrix whose shape is not that of the labels.
    """
    shape = (len(rows), len(columns))
    for values in panels.values():
        if values.shape != shape:
            sizes = " x ".join(map(str, values.shape))
            raise ValueError(f"values must be {shape[0]} x {shape[1]} as the labels are, got {sizes}")
    size = (len(panels) * (1.5 + 0.5 * len(columns)), 1.3 + 0.42 * len(rows))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=size, layout="constrained")
        places = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for (title, values), axes in zip(panels.items(), places, strict=True):
            _heat_map(axes, values)
            axes.set_title(title)
            axes.set_xticks(range(len(columns)), columns)
            axes.set_xlabel(column_label)
        places[0].set_yticks(range(len(rows)), rows)
        places[0].set_ylabel(row_label)
    return figure


def _heat_map(axes: Axes, values: np.ndarray) -> None:
    axes.imshow(values, cmap="cividis", aspect="auto", vmin=0, vmax=1)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{100 * value:.0f}"
        dark = value < 0.5  # the lower half of the map's colours; false for NaN
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="#f5f2ea" if dark else "#1a1713")


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure on white, the same bytes for the same numbers."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def themed_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an SVG element of the page, whose colour scheme sets its greys; `name` keeps its ids apart."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))  # the other ids would stand twice on a page of several figures
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    for colour, variable in THEME.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{_escaped(description)}" class="figure" ', 1)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
