"""Numbers, intervals, lists and durations as text."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from stages.reporting.numbers import Number


def percent(value: float) -> str:
    """A share as one reads it: 9.4%, 100%."""
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


def written(value: float, metric: str) -> str:
    """A value in the form its metric is read in: a share, a difference of shares in points, a number."""
    if metric.endswith(("_rate", "_share")):
        return percent(value)
    if metric.endswith(("_rate_change", "_share_change")) or "_rate_less_" in metric:
        return f"{round(100 * value, 1) + 0.0:+.1f} points"
    return f"{value + 0.0:+.3g}" if metric.endswith("_change") else f"{value:.3g}"


def interval(number: Number, metric: str) -> str:
    """`6 to 14.2%`; of several trainings too few for an interval `4.2 · 9.4%`, side by side; empty without either."""
    if number.parts:
        values = [written(part.value, metric) for part in number.parts]
        return " · ".join([*(value.removesuffix("%").removesuffix(" points") for value in values[:-1]), values[-1]])
    if isnan(number.low) or isnan(number.high):
        return ""
    low, high = written(number.low, metric), written(number.high, metric)
    return f"{low.removesuffix('%').removesuffix(' points')} to {high}"


def listed(words: Sequence[str]) -> str:
    """`red`, `red and circle`, `red, circle and dog`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def counted(n: int, noun: str) -> str:
    """`1 method`, `2 methods`."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
