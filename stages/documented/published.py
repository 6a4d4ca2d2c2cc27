"""What papers and releases say of the presets that are named after them, beside what the presets have.

A file of `papers/<kind>/` holds the paper's side of the preset of its name: a value for each field that the source
speaks of, and what no field holds. Departures follow from comparing both, and each must say why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from stages.params import attack_params, method_params, names
from stages.params.source import class_fields

PAPERS = Path(__file__).parent / "papers"
NAMED_AFTER = ("_paper", "_released", "_documented")  # what ends the names of presets that follow a source
Kind = Literal["methods", "attacks"]
UNSAID = "not said"


class Said(BaseModel):
    """What a source says of one field."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    value: Any = Field(default=UNSAID, alias="is")  # in the field's own terms
    says: str = ""  # in words, where the value alone says too little
    departs: str = ""  # why ours is another; empty if it is not
    source: str = ""  # section, equation, table or file


class Beside(BaseModel):
    """What a source says that no field holds."""

    model_config = ConfigDict(extra="forbid")

    what: str
    says: str = UNSAID
    ours: str
    departs: bool = False
    source: str = ""


class Trained(BaseModel):
    """Which numbers are trained: patterns that the names of weights, sites or layers match, and no others."""

    model_config = ConfigDict(extra="forbid")

    weights: str = ""  # of the network's parameters
    sites: str = ""  # of its sites
    layers: str = ""  # of its modules
    text: bool = False  # vectors of the text encoder


class Build(BaseModel):
    """What fitting the preset does, as a test sees it on the smallest network of the family."""

    model_config = ConfigDict(extra="forbid")

    steps: int = 0  # of the optimizer; 0: nothing is trained by gradients
    prompts: list[str] = []  # kinds: prompts, neutral, retain, words, empty, other
    states: list[str] = []  # student, fresh (runs of the frozen network), pool (kept runs), finals (their ends), noised
    loss: str = "none"  # prediction: the network's own output; otherwise words
    trained: Trained = Trained()
    changes: dict[str, Any] = {}  # fields that a tiny network cannot have as they are, such as layers


class Search(BaseModel):
    """What the attack of the preset does, as a test sees it on the smallest network of the family."""

    model_config = ConfigDict(extra="forbid")

    searches: int | Literal["one for each prompt"] = "one for each prompt"
    moves: Literal["probabilities", "embeddings", "vectors", "latents", "tokens"]  # what the search changes
    free: int  # how many tokens, vectors or latents a search moves; between words: of a prompt of three words
    steps: int  # of the optimizer, or generations, of a search that nothing ends
    optimizers: int = 1  # of one search, which share its steps; 0: a genetic search
    optimizer: str = ""  # its class
    times: list[int] = []  # the first two training times and the last, if a search goes through them in order
    loss: Literal["noise", "unedited prediction", "own inverse", "encoding"]  # what the search comes near to
    network: Literal["edited", "unedited", "none"]  # whose prediction the loss is of
    encoder: Literal["edited", "unedited"]  # which reads the text of the search
    asks: Literal["before the prompt", "before the rest", "between words", "alone", "template", "nothing"]
    templates: list[str] = []  # that are asked with the word that was learnt
    looks: int = 0  # steps between two looks, of which the first success ends the search; 0: it spends its budget
    changes: dict[str, Any] = {}  # fields that a tiny network cannot have as they are


class Paper(BaseModel):
    """One source's side of a preset."""

    model_config = ConfigDict(extra="forbid")

    source: str  # title, arXiv id, release
    backbone: str = "sd14"  # the backbone whose settings the source gives
    fields: dict[str, Said] = {}
    beside: list[Beside] = []
    build: Build = Build()  # of methods
    search: Search | None = None  # of attacks


@dataclass(frozen=True)
class Row:
    """A line of a preset's table."""

    what: str
    theirs: str
    ours: str
    departs: str  # empty if it does not
    source: str


def presets(kind: Kind, root: Path | str = "params") -> list[str]:
    """The presets of a kind that are named after a source."""
    return [name for name in names(kind, root) if name.endswith(NAMED_AFTER)]


def read_paper(kind: Kind, name: str) -> Paper:
    """The paper's side of a preset; `like` in its file takes over another's.

    FileNotFoundError says which file to write, ValueError which key is wrong.
    """
    return Paper.model_validate(_content(kind, name))


def _content(kind: Kind, name: str) -> dict[str, Any]:
    path = PAPERS / kind / f"{name}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: what the source of params/{kind}/{name}.yaml says, field by field")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not (other := content.pop("like", "")):
        return dict(content)
    base = _content(kind, other)
    merged = {key: base.get(key, {}) | content.get(key, {}) for key in ("fields", "build", "search")}
    merged = {key: value for key, value in merged.items() if value}
    return base | content | merged | {"beside": base.get("beside", []) + content.get("beside", [])}


def every_field(kind: Kind, name: str, backbone: str, root: Path | str = "params") -> dict[str, Any]:
    """Every field of a preset on a backbone: the file's value or the class's default."""
    content = (method_params if kind == "methods" else attack_params)(name, backbone, root)
    return {key: content.get(key, field.default) for key, field in class_fields(content["class"], name).items()}


def compare(paper: Paper, ours: Mapping[str, Any]) -> list[Row]:
    """The table of a preset; ValueError for a field that it lacks, an unexplained departure, an empty reason."""
    table = []
    for name, said in paper.fields.items():
        if name not in ours:
            raise ValueError(f"no field {name!r}")
        differs = said.value != UNSAID and plain(said.value) != plain(ours[name])
        if differs and not said.departs:
            raise ValueError(f"{name}: the source has {said.value!r}, ours {ours[name]!r}, and nothing says why")
        if said.departs and not differs and said.value != UNSAID:
            raise ValueError(f"{name}: the source has {said.value!r}, and so has ours: there is no departure")
        value = "" if said.says and said.value == UNSAID else _written(said.value)
        theirs = " ".join(filter(None, [value, said.says]))
        table.append(Row(f"`{name}`", theirs, _written(ours[name]), said.departs, said.source))
    for each in paper.beside:
        table.append(Row(each.what, each.says, each.ours, "yes" if each.departs else "", each.source))
    return table


def plain(value: Any) -> Any:
    """A value whose kind of sequence and of number does not matter."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _written(value: Any) -> str:
    if value == UNSAID:
        return UNSAID
    return f"`{list(value) if isinstance(value, tuple) else value}`"
