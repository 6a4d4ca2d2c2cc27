"""The findings of a study as sentences."""

from __future__ import annotations

from stages.reporting.bars import ERASED, FLOOR, KEPT, LEARNED, comparable, goal, reached
from stages.reporting.claims import BEST, beating, less
from stages.reporting.collected import BREAKER, CONTROLS, FILTER, ORACLE, REFERENCES, RETAIN, UNEDITED, Cell, Collected
from stages.reporting.formats import counted, interval, listed, percent
from stages.reporting.leaders import candidates, contestants, keepers, leader, reaching, swept, tops
from stages.reporting.numbers import Number, Numbers
from stages.reporting.summary import concept_rate, retained_rate

WITHIN = f"within {100 * KEPT:.0f} points"
BARS = (
    f"by its whole interval at most {percent(ERASED)} of the concept left, between what the oracle shows and what the "
    "unedited model does (without an oracle, at most the share that chance gives), with the retained prompts kept "
    f"{WITHIN}; if a word is taught, the concept in {percent(LEARNED)} or more. Nothing is marked if the unedited "
    f"model shows the concept in less than {percent(FLOOR)} of its prompts, or draws a taught one already"
)


def title(study: Collected) -> str:
    """The study's aim, as a heading."""
    backbones = list(dict.fromkeys(cell.backbone for cell in study.cells()))
    place = backbones[0] if len(backbones) == 1 else counted(len(backbones), "generator")
    erased, taught = _concepts(study, "erase"), _concepts(study, "learn")
    if not erased:
        return f"Teaching {listed(taught)} to {place}"
    return f"Erasing {listed(erased)} from {place}" + (f", teaching {listed(taught)}" if taught else "")


def _concepts(study: Collected, aim: str) -> list[str]:
    return list(dict.fromkeys(cell.concept for cell in study.cells() if cell.aim == aim))


def headline(study: Collected, numbers: Numbers) -> str:
    """The study's key result in one or two sentences."""
    cells = study.cells()
    if len(cells) == 1:
        return findings(study, numbers, cells[0])[0]
    open_cells = [cell for cell in cells if comparable(numbers, cell)]
    done = [cell for cell in open_cells if reaching(study, numbers, cell)]
    sentences = []
    for aim, result in (
        (
            "erase",
            f"at least one method is shown to leave {percent(ERASED)} of its concept or less and to keep the retained "
            f"prompts {WITHIN} of the unedited model",
        ),
        ("learn", f"the concept that is taught or steered to is shown to be seen in {percent(LEARNED)} of its prompts"),
    ):
        tables, reached = ([cell for cell in some if cell.aim == aim] for some in (open_cells, done))
        if tables:
            sentences.append(f"In {len(reached)} of {counted(len(tables), 'table')} {result}.")
    if closed := len(cells) - len(open_cells):
        sentences.append(f"In {counted(closed, 'table')} the unedited model leaves nothing to compare.")
    return " ".join(sentences)


def findings(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The findings of one table, a sentence each: the best trade, its company, the reference."""
    names = contestants(study, numbers, cell)
    rates = {name: rate for name, rate in candidates(study, numbers, cell).items() if name in names}
    if not rates and set(names) - {*REFERENCES, *CONTROLS}:
        return ["This study does not measure how often the concept is seen; a metric such as rates or clip_rates does."]
    if not rates:
        return [f"No method but the references was run on {cell.backbone} for {cell.concept}."]
    if not comparable(numbers, cell):
        return [_nothing_to_compare(numbers, cell)]
    if cell.aim == "learn":
        return [*_taught(study, numbers, cell, rates), *_settings(study, numbers, cell)]
    first = leader(study, numbers, cell)
    if first is None:
        raise ValueError(f"{cell}: no method leads the table")
    return [
        _lead(numbers, cell, first, first in keepers(study, numbers, cell)),
        *_company(study, numbers, cell, first, rates),
        *_filter(numbers, cell, list(rates)),
        *_settings(study, numbers, cell),
        *_oracle(numbers, cell),
    ]


def _nothing_to_compare(numbers: Numbers, cell: Cell) -> str:
    share = percent(numbers[(cell, UNEDITED, *concept_rate(cell))].value)
    if cell.aim == "learn":
        return f"The unedited model draws {cell.concept} already, in {share} of its prompts: nothing to compare."
    return (
        f"The unedited model does not show {cell.concept}: nothing to compare. It is seen in {share} of its prompts; "
        f"an erasure needs {percent(FLOOR)} or more to begin with."
    )


def _taught(study: Collected, numbers: Numbers, cell: Cell, rates: dict[str, Number]) -> list[str]:
    """The findings of a table of new words: the method that draws the object, and how rarely it comes by itself."""
    first = max(rates, key=lambda name: rates[name].value)
    good = [name for name in reaching(study, numbers, cell) if name in rates]
    span = f"(95% interval {interval(rates[first], cell.seen)})"
    before = numbers.get((cell, UNEDITED, *concept_rate(cell)))
    unedited = f"; the unedited model draws it in {percent(before.value)}" if before else ""
    names = f": {listed(good)}" if good else ""
    return [
        f"{first} draws {cell.concept} in {percent(rates[first].value)} of its prompts {span}{unedited}.",
        f"{len(good)} of {counted(len(rates), 'method')} are shown to reach {percent(LEARNED)}{names}.",
    ]


def _lead(numbers: Numbers, cell: Cell, first: str, keeps: bool) -> str:
    after, before = numbers[cell, first, *concept_rate(cell)], numbers.get((cell, UNEDITED, *concept_rate(cell)))
    span = f"(95% interval {interval(after, cell.seen)})"
    if before and after.value >= before.value:
        return (
            f"No method shows {cell.concept} less often than the unedited model ({percent(before.value)} of its "
            f"prompts); {first} shows it in {percent(after.value)} {span}."
        )
    down = f"from {percent(before.value)} " if before else ""
    text = f"{first} takes {cell.concept} {down}to {percent(after.value)} of its prompts {span}"
    retained, unedited = (numbers.get((cell, name, *retained_rate(numbers, cell))) for name in (first, UNEDITED))
    if not (retained and unedited):
        return f"{text}."
    text += f", with {percent(retained.value)} of the retained prompts right (unedited {percent(unedited.value)})."
    return text if keeps else f"No method is shown to keep the retained prompts {WITHIN}; {text}"


def _company(study: Collected, numbers: Numbers, cell: Cell, first: str, rates: dict[str, Number]) -> list[str]:
    good = [name for name in reaching(study, numbers, cell) if name in rates]
    if len(rates) < 2:
        return []
    names = f": {listed(good)}" if good else ""
    stronger = {name: number for name, number in rates.items() if number.value < rates[first].value}
    limit = percent(goal(numbers, cell))
    undecided = [name for name in rates if name not in good and reached(numbers, cell, name) == "open"]
    more = f"; undecided: {listed(undecided)}" if undecided else ""
    sentences = [
        f"{len(good)} of {counted(len(rates), 'method')} are shown to leave {limit} or less with the rest kept "
        f"{WITHIN}{names}{more}."
    ]
    same = [name for name in tops(study, numbers, cell) if name in rates]
    if len(same) > 1:
        sentences.append(f"Least is left by {listed(same)}, which cannot be told from each other.")
    elif not same and any(metric == less(cell.seen, BEST) for place, *_, metric in numbers if place == cell):
        sentences.append("No method can be told from the one that leaves least.")
    for name, number in stronger.items():
        retained = numbers.get((cell, name, *retained_rate(numbers, cell)))
        if retained:
            sentences.append(
                f"{name} erases more ({percent(number.value)} left) but keeps only {percent(retained.value)} right."
            )
    return sentences


def _filter(numbers: Numbers, cell: Cell, names: list[str]) -> list[str]:
    """Which methods beat deleting the word from the prompt, and by how much."""
    if (cell, FILTER, *concept_rate(cell)) not in numbers:
        return []
    metric = less(cell.seen, FILTER)
    gaps = {name: gap for name, gap in beating(numbers, cell).items() if name in names}
    if not gaps:
        return ["No method is shown to beat the word filter, which takes the word out of the prompt."]
    parts = [
        f"{name} by {abs(100 * gap.value):.1f} points ({interval(gap, metric)})"
        for name, gap in sorted(gaps.items(), key=lambda item: item[1].value)
    ]
    return [f"{len(gaps)} of {counted(len(names), 'method')} beat the word filter: {listed(parts)}."]


def _settings(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The number of settings of a swept method that do what is asked, and the one that does best."""
    good = reaching(study, numbers, cell)
    return [
        f"{sum(name in good for name in variants)} of the {len(variants)} settings of {method} do what is asked; "
        f"{leader(study, numbers, cell, variants)} does best."
        for method, variants in swept(study, cell).items()
    ]


def _oracle(numbers: Numbers, cell: Cell) -> list[str]:
    shown = numbers.get((cell, ORACLE, *concept_rate(cell)))
    return (
        [f"The oracle, trained from scratch without {cell.concept}, shows it in {percent(shown.value)}."]
        if shown
        else []
    )


def cosines(numbers: Numbers, cell: Cell) -> list[str]:
    """One sentence on the states that the circuit breakers of a table watched, if it has any."""
    pairs = []
    for place, method, *key in numbers:
        if place == cell and tuple(key) == BREAKER:
            both = (numbers[cell, method, *kind].value for kind in (BREAKER, RETAIN))
            pairs.append(f"{method} {' / '.join(f'{value:.2f}' for value in both)}")
    about = "Cosine of the watched states to the unedited ones, mean over layers and scales (concept / rest)"
    return [f"{about}: {', '.join(pairs)}."] if pairs else []
