"""A printed table against the one that was derived again: the first cell that differs, by name."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
SPAN = re.compile(r"\[[^\]]*\]")  # an interval in a Markdown table
ENDS = re.compile(r"(^|_)(low|high)$")  # columns of a CSV that hold the ends of intervals
JITTER = 1.01e-5  # of a bootstrap's ends on another processor, as a share: one unit of the sixth digit


def difference(name: str, printed: str, derived: str) -> str | None:
    """What differs first, as `row, column: printed a, derived b`; None if nothing does.

    Values must be equal to the letter. The ends of intervals may differ in the last digit printed: sums of a bootstrap
    are rounded differently on another processor.
    """
    if printed == derived:
        return None
    differences = _of_csv(printed, derived) if name.endswith(".csv") else _of_lines(printed, derived)
    return next(differences, None)


def _of_csv(printed: str, derived: str) -> Iterator[str]:
    ours, theirs = (list(csv.reader(io.StringIO(text))) for text in (printed, derived))
    if not ours or ours[0] != theirs[0]:
        yield f"its columns: printed {', '.join(ours[0]) if ours else 'none'}, derived {', '.join(theirs[0])}"
        return
    for row, other in zip(ours[1:], theirs[1:], strict=False):
        for column, one, two in zip(theirs[0], row, other, strict=False):
            if one != two and not (ENDS.search(column) and _near(one, two)):
                yield f"row {' '.join(_words(other))}, column {column}: printed {one}, derived {two}"
        if len(row) != len(other):
            yield f"row {' '.join(_words(other))}: printed {len(row)} cells, derived {len(other)}"
    if len(ours) != len(theirs):
        yield f"printed {len(ours) - 1} rows, derived {len(theirs) - 1}"


def _words(row: list[str]) -> list[str]:
    """The cells that name a row: those before its first number with a point."""
    words = [cell for cell in row if cell and not re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", cell)]
    return words[:8]


def _near(one: str, two: str) -> bool:
    try:
        a, b = float(one), float(two)
    except ValueError:
        return False
    return abs(a - b) <= JITTER * max(abs(a), abs(b), 1e-6)


def _of_lines(printed: str, derived: str) -> Iterator[str]:
    ours, theirs = printed.splitlines(), derived.splitlines()
    head: list[str] = []
    for number, (one, two) in enumerate(zip(ours, theirs, strict=False), start=1):
        if two.startswith("|"):
            head = head or _cells(two)
        else:
            head = []
        if one == two:
            continue
        cells, others = _cells(one), _cells(two)
        if head and len(cells) == len(others) == len(head) and cells[0] == others[0]:
            for column, a, b in zip(head, cells, others, strict=True):
                if a != b and not _same_but_ends(a, b):
                    yield f"line {number}, row {cells[0]}, column {column}: printed {a}, derived {b}"
        else:
            yield f"line {number}: printed {one!r}, derived {two!r}"
    if len(ours) != len(theirs):
        yield f"printed {len(ours)} lines, derived {len(theirs)}"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _same_but_ends(one: str, two: str) -> bool:
    """Whether two cells are equal up to one unit in the last digit of an interval's ends."""
    if SPAN.sub("", one) != SPAN.sub("", two):
        return False
    ours, theirs = ("".join(SPAN.findall(text)) for text in (one, two))
    if NUMBER.sub("#", ours) != NUMBER.sub("#", theirs):
        return False
    pairs = zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True)
    return all(abs(float(a.replace(",", "")) - float(b.replace(",", ""))) <= 1.01 * _unit(b) for a, b in pairs)


def _unit(text: str) -> float:
    """One unit in the last digit of a number as printed."""
    digits, _, power = text.partition("e")
    return float(10 ** (-len(digits.partition(".")[2]) + int(power or 0)))
