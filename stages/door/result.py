"""What an erasure leaves in its folder: the report, pictures before and after, files for elsewhere, the model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from stages.door.asked import Asked
from stages.door.calls import call
from stages.door.card import PICTURES, Card, card
from stages.interventions import load
from stages.interventions.export import form
from stages.params.layout import ARTIFACTS
from stages.params.project import located
from stages.reporting.attempts import Attempts
from stages.reporting.collect import collect
from stages.reporting.collected import UNEDITED, Cell, Collected
from stages.reporting.formats import interval, written
from stages.reporting.grids import draw, grid
from stages.reporting.numbers import Numbers
from stages.reporting.page import render
from stages.reporting.summary import concept_rate, retained_rate
from stages.reporting.texts import all_numbers
from stages.store.files import replacing, write_text

FILES = ("intervention.safetensors", "intervention.json")


def write(asked: Asked) -> str:
    """Writes everything into the folder that was asked for; the line that says how well it worked."""
    out, study = Path(asked.out), collect(asked.study(), located(ARTIFACTS))
    numbers, (cell,) = all_numbers(study), study.cells()
    write_text(out / "report.html", render(study, numbers, Attempts()))
    drawn = grid(study, cell, "concept")
    if drawn is not None:
        with replacing(out / PICTURES) as temporary:
            draw(drawn, hide=study.sensitive[cell.concept]).save(temporary, "PNG")
    for name in FILES:
        with replacing(out / "intervention" / name) as temporary:
            shutil.copyfile(asked.made() / name, temporary)
    kind = form(load(asked.made()))
    if kind:
        options = ["--backbone", asked.backbone, "--run", asked.made(), "--threads", asked.threads]
        call("export", *options, "--out", out / kind)
    rates = before_and_after(study, numbers, cell, asked.method)
    write_text(out / "README.md", card(Card(asked, kind, rates, drawn is not None)))
    return "; ".join(f"{name}: {before} -> {after}" for name, before, after in rates)


def before_and_after(study: Collected, numbers: Numbers, cell: Cell, method: str) -> list[tuple[str, str, str]]:
    """How often the concept is seen and how often the rest is right, unedited and edited, with 95 % intervals."""
    rows = []
    for name, key in ((f"{cell.concept} seen", concept_rate(cell)), ("the rest right", retained_rate(numbers, cell))):
        sides = [numbers.get((cell, which, *key)) for which in (UNEDITED, method)]
        if all(sides):
            said = [f"{written(n.value, key[1])} [{interval(n, key[1])}]" for n in sides if n is not None]
            rows.append((name, said[0], said[1]))
    return rows
