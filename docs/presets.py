"""What presets change: beside the source that each is named after, and by what is tuned on small worlds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from writing import page, table

from stages.documented.published import compare, every_field, presets, read_paper
from stages.params.effect import departures
from stages.params.kept import kept_states
from stages.params.layers import for_kind, layer_of
from stages.params.load import RESERVED

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params"


def papers() -> str:
    """For each preset named after a source: what the source has, what the preset has, which of it departs."""
    made, counts = [], []
    for kind, title in (("methods", "Methods"), ("attacks", "Attacks")):
        made.append(f"## {title}")
        for name in presets(kind, PARAMS):
            paper = read_paper(kind, name)
            lines = compare(paper, every_field(kind, name, paper.backbone, PARAMS))
            departs = [line for line in lines if line.departs]
            counts.append({"preset": f"[`{name}`](#{name})", "source": paper.source, "departures": str(len(departs))})
            made += [
                f"### {name}",
                f"{paper.source}. Fields as on `{paper.backbone}`.",
                table(list(map(compared, lines))),
            ]
    intro = (
        "Each preset named after a paper, a release or a document beside what that source says. **Bold**: the preset"
        " departs, and why. `not said`: the source does not say, or it could not be read. The tables' left side is"
        " `stages/documented/papers/`; tests compare it with the presets, and with what fitting or searching does on"
        " the smallest network of the family's real structure."
    )
    return page("Papers and presets", intro, table(counts), *made)


def compared(line: Any) -> dict[str, str]:
    """A line of a preset's table; departures stand out."""
    reason = "" if line.departs == "yes" else f": {line.departs}"
    return {
        "": line.what,
        "source": line.theirs,
        "here": f"**{line.ours}**" if line.departs else line.ours,
        "departs": f"**yes**{reason}" if line.departs else "",
        "where": line.source,
    }


def trained_on(name: str, content: Mapping[str, Any]) -> str:
    """The states of the backbone's runs that a method's file reads, and those that it does on some backbones."""
    own = {key: value for key, value in content.items() if key not in RESERVED or key == "class"}
    states = kept_states(own, ROOT)
    rows = tuned_rows(name) | layer_of("adapted", "methods", name, PARAMS)
    others = {where: kept_states(own | for_kind(row, ""), ROOT) for where, row in rows.items()}
    different = {name: other for name, other in others.items() if other != states}
    said = [states or "none", *(f"{other or 'none'} on `{name}`" for name, other in different.items())]
    return ", ".join(said)


def departs(name: str, content: Mapping[str, Any]) -> str:
    """What makes a method another one than its file on small worlds, by architecture."""
    own = {key: value for key, value in content.items() if key not in RESERVED or key == "class"}
    said: dict[str, list[str]] = {}
    for where, row in tuned_rows(name).items():
        for words in departures(own | for_kind(row, ""), own, ROOT):
            said.setdefault(words, []).append(where)
    return "; ".join(f"{words} ({', '.join(where)})" for words, where in said.items())


def tuned_rows(name: str) -> dict[str, dict[str, Any]]:
    """The rows of a method's tuned file by architecture and world, such as `sd-shapes`."""
    worlds = layer_of("tuned", "methods", name, PARAMS)
    return {f"{architecture}-{world}": row for world, rows in worlds.items() for architecture, row in rows.items()}
