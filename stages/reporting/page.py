"""The study as one self-contained page: every number leads to its images, parameters, seeds, commit and record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.reporting.attempts import Attempts
from stages.reporting.collected import REFERENCES, Collected
from stages.reporting.evidence import description
from stages.reporting.findings import BARS, headline, title
from stages.reporting.formats import duration
from stages.reporting.machines import machine
from stages.reporting.numbers import Numbers
from stages.reporting.overview import overview
from stages.reporting.sections import Section, section
from stages.reporting.summary import is_rate

PACKAGE = "stages.reporting"


@dataclass(frozen=True)
class Fact:
    """A figure of the page's head."""

    amount: str
    noun: str


def render(
    study: Collected,
    numbers: Numbers,
    attempts: Attempts,
    *,
    params: Path | str = "params",
    show_sensitive: bool = False,
) -> str:
    """The page as HTML text that asks nothing of the network; parts that fail are named on it."""
    sections = [
        section(study, numbers, cell, attempts=attempts, show_sensitive=show_sensitive) for cell in study.cells()
    ]
    methods = list(dict.fromkeys(row.method for part in sections for row in part.rows))
    template = _environment().get_template("report.html")
    return template.render(
        study=study,
        title=title(study),
        concepts=list(dict.fromkeys(cell.concept for cell in study.cells() if cell.aim == "erase")),
        taught=list(dict.fromkeys(cell.concept for cell in study.cells() if cell.aim == "learn")),
        overview=overview(study, numbers),
        bars=BARS,
        headline=headline(study, numbers),
        facts=facts(study, sections),
        sections=sections,
        methods={method: description(method, params) for method in methods},
        names=[method for method in methods if method not in REFERENCES],
        made=provenance(study),
    )


def facts(study: Collected, sections: Sequence[Section]) -> list[Fact]:
    """The study in figures. Seconds are those of its own runs: fitting, sampling and measuring."""
    images = sum(sum(row.evidence.sampled.values()) for part in sections for row in part.rows)
    backbones = len({part.cell.backbone for part in sections})
    methods = len({row.method for part in sections for row in part.rows if not row.reference})
    seeds = len({result.seed for result in study.results})
    seconds = sum(record.get("seconds") or 0 for result in study.results for record in result.records.values())
    return [
        Fact(f"{backbones}", "generator" if backbones == 1 else "generators"),
        Fact(f"{methods}", "method" if methods == 1 else "methods"),
        Fact(f"{seeds}", "seed each" if seeds == 1 else "seeds at most"),
        Fact(f"{images:,}", "images judged"),
        Fact(duration(seconds), "of fitting, sampling and measuring"),
    ]


def provenance(study: Collected) -> dict[str, list[str]]:
    """The commits, devices and package versions that the records name, each once."""
    records = [record for result in study.results for record in result.records.values()]
    commits = {commit(record) for record in records}
    versions = {f"{name} {version}" for record in records for name, version in record.get("versions", {}).items()}
    devices = {f"{machine(record)}, {record.get('threads')} threads" for record in records if record.get("device")}
    return {"commits": sorted(commits), "devices": sorted(devices), "versions": sorted(versions)}


def commit(record: Mapping[str, Any]) -> str:
    """The commit of a record, shortened, and whether the tree differed from it."""
    git = record.get("git") or {}
    return f"{(git.get('commit') or 'no commit')[:10]}{' with local changes' if git.get('dirty') else ''}"


def prose(text: str) -> Markup:
    """Docstring text as HTML paragraphs, its `names` as code."""
    paragraphs = [str(escape(part)) for part in re.split(r"\n\s*\n", text.strip())]
    return Markup("".join("<p>" + re.sub("`([^`]+)`", r"<code>\1</code>", part) + "</p>" for part in paragraphs))


def named(text: str, names: Sequence[str]) -> Markup:
    """A sentence with the names of methods set apart."""
    pattern = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    return (
        Markup(re.sub(rf"(?<!\w)({pattern})(?!\w)", r"<code>\1</code>", str(escape(text)))) if names else escape(text)
    )


def breakable(name: str) -> Markup:
    """A name that may be broken after its underscores, and a variant's after each field."""
    return Markup(re.sub("([_@,])", r"\1<wbr>", str(escape(name))))


def _environment() -> Environment:
    loader = PackageLoader(PACKAGE, "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "prose": prose,
        "safe_svg": Markup,
        "commit": commit,
        "machine": machine,
        "plain": plain,
        "is_rate": is_rate,
        "named": named,
        "breakable": breakable,
    }
    environment.globals["asset"] = lambda name: Markup(loader.get_source(environment, name)[0])
    return environment


def plain(name: str) -> str:
    """A name of the code in words: `target_rate` is `target rate`."""
    return name.replace("_", " ")
