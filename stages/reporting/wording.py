"""Numbers and findings in words."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from stages.params.names import split
from stages.reporting.collect import ORACLE, REFERENCES, UNEDITED, Cell, Collected
from stages.reporting.summary import best, concept_column, erasure, preservation
from stages.reporting.tables import Number, Numbers

ERASED = 0.25  # a concept seen in at most this share of its prompts counts as erased
KEPT = 0.05  # retained prompts may lose at most this share
ASKED = 0.1  # and what else the concept's own prompts ask for, where the concept is drawn and not erased, this share
LEARNED = 0.7  # a new word's object seen in at least this share of its prompts counts as learned
AIMS = ("erase", "learn")


def percent(value: float) -> str:
    """A share as one reads it: 9.4%, 100%."""
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


def written(value: float, metric: str) -> str:
    """A value in the form its metric is read in: a share, a difference of shares in points, a number."""
    if metric.endswith("_rate"):
        return percent(value)
    return f"{round(100 * value, 1) + 0.0:+.1f} points" if metric.endswith("_change") else f"{value:.3g}"


def interval(number: Number, metric: str) -> str:
    """`6 to 14.2%`; empty where there is no interval."""
    if isnan(number.low) or isnan(number.high):
        return ""
    low, high = written(number.low, metric), written(number.high, metric)
    return f"{low.removesuffix('%').removesuffix(' points')} to {high}"


LIMITS = f"{percent(ERASED)} or less with the rest kept within {100 * KEPT:.0f} points"

BARS = f"{LIMITS}, or, where a word is taught, the concept in {percent(LEARNED)} or more"


def listed(words: Sequence[str]) -> str:
    """`red`, `red and circle`, `red, circle and dog`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def counted(n: int, noun: str) -> str:
    """`1 method`, `2 methods`."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def title(study: Collected) -> str:
    """What the study does, as a heading."""
    backbones = list(dict.fromkeys(cell.backbone for cell in study.cells()))
    place = backbones[0] if len(backbones) == 1 else counted(len(backbones), "generator")
    erased, taught = (list(dict.fromkeys(c.concept for c in study.cells() if c.aim == aim)) for aim in AIMS)
    if not erased:
        return f"Teaching {listed(taught)} to {place}"
    return f"Erasing {listed(erased)} from {place}" + (f", teaching {listed(taught)}" if taught else "")


def headline(study: Collected, numbers: Numbers) -> str:
    """The study's key result in one or two sentences."""
    cells = study.cells()
    if len(cells) == 1:
        return finding(study, numbers, cells[0])[0]
    erased, taught = ([cell for cell in cells if cell.aim == aim] for aim in AIMS)
    done = {cell for cell in cells if reaching(study, numbers, cell)}
    sentences = []
    if erased:
        sentences.append(
            f"In {len(done & set(erased))} of {counted(len(erased), 'table')} at least one method leaves its concept "
            f"in {percent(ERASED)} of the prompts or fewer and keeps the retained prompts within {100 * KEPT:.0f} "
            "points of the unedited model."
        )
    if taught:
        sentences.append(
            f"In {len(done & set(taught))} of {counted(len(taught), 'table')} what is taught or steered to is seen in "
            f"{percent(LEARNED)} of held-out prompts or more."
        )
    return " ".join(sentences)


def candidates(study: Collected, numbers: Numbers, cell: Cell) -> dict[str, Number]:
    """How often each method but the references still shows the concept."""
    rates = {name: numbers.get((cell, name, *erasure(cell))) for name in study.methods(cell) if name not in REFERENCES}
    return {name: number for name, number in rates.items() if number}


def keepers(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods whose retained prompts stay within `KEPT` of the unedited model's."""
    before = numbers.get((cell, UNEDITED, *preservation(numbers, cell)))
    kept = {name: numbers.get((cell, name, *preservation(numbers, cell))) for name in candidates(study, numbers, cell)}
    return [name for name, number in kept.items() if before and number and number.value >= before.value - KEPT]


def reaching(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods that do what is asked in this table."""
    if cell.aim == "erase":
        return erasers(study, numbers, cell)
    return [name for name, number in candidates(study, numbers, cell).items() if number.value >= LEARNED]


def erasers(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods that erase the concept and keep the rest."""
    rates = candidates(study, numbers, cell)
    return [name for name in keepers(study, numbers, cell) if rates[name].value <= ERASED]


def leader(study: Collected, numbers: Numbers, cell: Cell, among: Sequence[str] | None = None) -> str | None:
    """The method (of those named) that erases most of those that keep the rest, or of all where none does.

    None without methods; where a word is taught, the one that draws its object most often.
    """
    rates = candidates(study, numbers, cell)
    rates = {name: rate for name, rate in rates.items() if among is None or name in among}
    keep = [name for name in keepers(study, numbers, cell) if name in rates]
    if cell.aim == "learn":
        keep = [name for name in keep if _asked(numbers, cell, name)]
        return max(keep or rates, key=lambda name: rates[name].value, default=None)
    return min(keep or rates, key=lambda name: rates[name].value, default=None)


def _asked(numbers: Numbers, cell: Cell, method: str) -> bool:
    """Whether the concept's prompts still show what else they ask for, as far as that is measured."""
    after, before = (numbers.get((cell, name, "concept", "other_rate")) for name in (method, UNEDITED))
    return not (after and before) or after.value >= before.value - ASKED


def families(study: Collected, cell: Cell) -> dict[str, list[str]]:
    """The methods of a table that were swept, each with its variants."""
    found: dict[str, list[str]] = {}
    for name in study.methods(cell):
        if "@" in name:
            found.setdefault(split(name)[0], []).append(name)
    return found


def contestants(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods that sentences and pictures are about: all, but of each sweep only its best variant."""
    best = [leader(study, numbers, cell, variants) for variants in families(study, cell).values()]
    return [method for method in study.methods(cell) if "@" not in method or method in best]


def finding(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """What one table says, a sentence each: the best trade, its company, the reference."""
    named = contestants(study, numbers, cell)
    rates = {name: rate for name, rate in candidates(study, numbers, cell).items() if name in named}
    if not rates and set(named) - set(REFERENCES):
        return ["This study does not measure how often the concept is seen; a metric such as rates or clip_rates does."]
    if not rates:
        return [f"No method but the references was run on {cell.backbone} for {cell.concept}."]
    if cell.aim == "learn":
        return [*_lessons(study, numbers, cell, rates), *_swept(study, numbers, cell)]
    first = leader(study, numbers, cell)
    return [
        _leader(numbers, cell, first, first in keepers(study, numbers, cell)),
        *_company(study, numbers, cell, first, rates),
        *_swept(study, numbers, cell),
        *_oracle(numbers, cell),
    ]


def _lessons(study: Collected, numbers: Numbers, cell: Cell, rates: dict[str, Number]) -> list[str]:
    """What a table of new words says: who draws the object, and how rarely it comes by itself."""
    ordered = sorted(rates, key=lambda name: -rates[name].value)
    first = ordered[0]
    good = [name for name in reaching(study, numbers, cell) if name in rates]
    span = f"(95% interval {interval(rates[first], cell.seen)})"
    before = numbers.get((cell, UNEDITED, *erasure(cell)))
    unedited = f"; the unedited model draws it in {percent(before.value)}" if before else ""
    names = f": {listed(good)}" if good else ""
    return [
        f"{first} draws {cell.concept} in {percent(rates[first].value)} of held-out prompts {span}{unedited}.",
        f"{len(good)} of {counted(len(rates), 'method')} reach {percent(LEARNED)}{names}.",
    ]


def _leader(numbers: Numbers, cell: Cell, first: str, keeps: bool) -> str:
    after, before = numbers[(cell, first, *erasure(cell))], numbers.get((cell, UNEDITED, *erasure(cell)))
    down = f"from {percent(before.value)} " if before else ""
    span = f"(95% interval {interval(after, cell.seen)})"
    text = f"{first} takes {cell.concept} {down}to {percent(after.value)} of its prompts {span}"
    kept, was = (numbers.get((cell, name, *preservation(numbers, cell))) for name in (first, UNEDITED))
    if not (kept and was):
        return f"{text}."
    text += f", with {percent(kept.value)} of the retained prompts right (unedited {percent(was.value)})."
    return text if keeps else f"No method keeps the retained prompts within {100 * KEPT:.0f} points; {text}"


def _company(study: Collected, numbers: Numbers, cell: Cell, first: str, rates: dict[str, Number]) -> list[str]:
    good = [name for name in erasers(study, numbers, cell) if name in rates]
    if len(rates) < 2:
        return []
    names = f": {listed(good)}" if good else ""
    lost = {name: number for name, number in rates.items() if number.value < rates[first].value}
    sentences = [f"{len(good)} of {counted(len(rates), 'method')} reach {LIMITS}{names}."]
    if first in good and len(good) > 1 and best(numbers, cell, concept_column(cell)) != first:
        sentences.append(f"The lead of {first} is within chance: its interval overlaps another method's.")
    for name, number in lost.items():
        kept = numbers.get((cell, name, *preservation(numbers, cell)))
        if kept:
            sentences.append(
                f"{name} erases more ({percent(number.value)} left) but keeps only {percent(kept.value)} right."
            )
    return sentences


def _swept(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """How many settings of a swept method do what is asked, and which does best."""
    good = reaching(study, numbers, cell)
    return [
        f"{sum(name in good for name in variants)} of the {len(variants)} settings of {family} do what is asked; "
        f"{leader(study, numbers, cell, variants)} does best."
        for family, variants in families(study, cell).items()
    ]


def _oracle(numbers: Numbers, cell: Cell) -> list[str]:
    seen = numbers.get((cell, ORACLE, *erasure(cell)))
    return (
        [f"The oracle, trained from scratch without {cell.concept}, shows it in {percent(seen.value)}."] if seen else []
    )


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
