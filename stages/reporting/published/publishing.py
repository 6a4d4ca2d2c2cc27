"""A study's results as a folder that git can hold: outcomes, records, the tables that follow from them, a page."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages.params.load import read_file
from stages.params.project import located
from stages.reporting.attempts import Attempts
from stages.reporting.collect import gather, outline
from stages.reporting.collected import Collected
from stages.reporting.numbers import Numbers
from stages.reporting.page import render
from stages.reporting.published.layout import ABOUT, OUTCOMES, PAGE, RECORDS, TABLES, VALUES
from stages.reporting.published.packing import pack
from stages.reporting.published.unpacking import CLOSE, read
from stages.reporting.published.verifying import digests, tables
from stages.reporting.texts import all_numbers
from stages.store.files import replacing, write_json, write_text

THINNED = (None, 4, 2, 1)  # pictures of a row and prompt set on the page, until the folder is small enough
MEGABYTE = 10**6


def publish(name: str, artifacts: Path, out: Path, *, params: Path | str = "params", megabytes: float = 20.0) -> str:
    """Writes the folder, whole or not at all, and returns a sentence on it.

    ValueError if outcomes do not give the numbers of the report, or if the folder would be larger than `megabytes`.
    """
    about = outline(name, params)
    study = gather(about, artifacts)
    if study.missing:
        raise ValueError(
            f"study {name}: {len(study.missing)} of its runs are not finished, such as {study.missing[0]}; run: "
            f"snakemake --config study={name}"
        )
    numbers = all_numbers(study)
    with replacing(out) as folder:
        pack(about, artifacts, folder, params=params, protocol=protocol(params))
        found = tables(read(folder))
        _check(numbers, found.numbers)
        for file, text in found.texts.items():
            write_text(folder / TABLES / file, text)
        write_text(folder / "README.md", _readme(study, out))
        size = _add_page(study, numbers, folder, params, megabytes * MEGABYTE)
        content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        write_json(folder / ABOUT, content | {"files": digests(folder)})
    return f"{out}: {found.derived.pictures:,} pictures' outcomes, {len(found.texts)} tables, {size / MEGABYTE:.1f} MB"


def protocol(params: Path | str) -> dict[str, Any]:
    """The protocol that the study kept to, and its version; nulls without one."""
    path = located(params) / "protocol.yaml"
    content = read_file(path) if path.is_file() else {}
    return {"version": content.get("version"), "content": content}


def _add_page(study: Collected, numbers: Numbers, folder: Path, params: Path | str, limit: float) -> int:
    """The page with as many pictures as fit; the size of the folder in bytes."""
    before = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for tiles in THINNED:
        page = render(replace(study, tiles=tiles), numbers, Attempts(), params=params)
        size = before + len(page.encode("utf-8"))
        if size <= limit:
            write_text(folder / PAGE, page)
            return size
    raise ValueError(f"{study.name}: {size / MEGABYTE:.1f} MB with one picture a row; allow more with --megabytes")


def _check(reported: Numbers, derived: Numbers) -> None:
    for key, number in reported.items():
        cell, method, prompts, metric = key
        for part in ("value", "low", "high", "n"):
            one, other = getattr(number, part), getattr(derived[key], part)
            same = abs(one - other) <= CLOSE * max(1.0, abs(other)) or (math.isnan(one) and math.isnan(other))
            if not same:
                raise ValueError(
                    f"{cell}, {method}, {prompts} prompts, {metric}: {part} is {one} in the report and {other} from "
                    f"the outcomes; measure it again"
                )


def _readme(study: Collected, out: Path) -> str:
    return f"""# Results of the study {study.name}

| file | holds |
|---|---|
| `{ABOUT}` | the study, its metrics with their settings, the protocol, the commit, sha256 of each file |
| `{OUTCOMES}` | a row per picture: run, prompt, seed of the noise, and every outcome of every metric |
| `{VALUES}` | a row per number of a single run, as its metric wrote it |
| `{RECORDS}` | the record of every run: settings, seed, commit, processor, versions, seconds; without loss curves |
| `{TABLES}/` | the tables, which follow from the outcomes |
| `{PAGE}` | the page with all numbers and some of the pictures |

`python -m stages.verify {out}` derives every table from the outcomes again and names the first cell that differs.
"""
