"""The zoo: what params/zoo.yaml lists, what data/zoo/manifest.json holds, and which entry a study takes.

Read by the Snakefile at parse time, so nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.params.check import check_schema
from stages.params.load import canonical, load_params, names, read_file, suggestion
from stages.params.project import located

FOLDER = Path("data") / "zoo"
MANIFEST = "manifest.json"
BACKBONE = "backbone"  # the kind of an entry that is no part of a world
UNREAD = ("memory", "minutes", "architecture", "oracle")  # keys of a backbone that no job of its own reads
SAMPLING = ("steps", "scheduler", "guidance", "temperature", "top_p", "batch", "pool", "cache")
RESTORE = "restore it with: git checkout -- {folder}, or train it here: snakemake --config zoo=false"


@dataclass(frozen=True)
class Stored:
    """One file of an entry."""

    sha256: str
    bytes: int
    stored: str  # path under the zoo: in the entry's folder, or shared with others
    was: str | None  # type of the weights before they were stored, None for a file without weights


@dataclass(frozen=True)
class Entry:
    """A trained backbone, or a part of a world."""

    kind: str  # backbone, or autoencoder, tokenizer, judge
    world: str
    recipe: Mapping[str, Any]  # what its training read of its file
    recipe_sha256: str
    seed: int
    commit: str | None
    processor: Mapping[str, Any]
    threads: int | None
    seconds: float
    versions: Mapping[str, str]
    dtype: str  # of the stored weights
    rounding: float  # largest relative error that storing made in a tensor
    never_shown: tuple[str, ...]
    figures: tuple[Mapping[str, Any], ...]  # kind, rate, low, high, n
    files: Mapping[str, Stored] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """One line of params/zoo.yaml."""

    name: str  # of the entry
    kind: str
    world: str
    recipe: Mapping[str, Any]
    never_shown: tuple[str, ...]
    prompts: str = ""  # the table that a backbone's pictures are judged on; empty for none


def asked(config: Mapping[str, Any]) -> bool:
    """Whether params/pipeline.yaml, or the command line in words, asks for the zoo; by default it does."""
    return config.get("zoo", True) in (True, "true")


def part_name(world: str, part: str) -> str:
    """The entry of a part of a world, such as shapes-judge."""
    return f"{world}-{part}"


def part_recipe(world: str, part: str) -> dict[str, str]:
    """What names a part of a world. Its code is no part of it: entries outlive edits of the code that made them."""
    return {"world": world, "part": part}


def recipe_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a backbone's training reads of its file: everything but how it is sampled and where it lies."""
    return {key: value for key, value in content.items() if key not in (*SAMPLING, *UNREAD, "path")}


def digest_of(recipe: Mapping[str, Any]) -> str:
    """The sha256 of a recipe, equal for equal content whatever the order of its keys."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()


def listed(root: Path | str = "params") -> list[Listed]:
    """The entries that params/zoo.yaml asks for, parts of worlds first; ValueError says what is wrong in it."""
    path = located(root) / "zoo.yaml"
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    content = read_file(path)
    check_schema(content, "zoo", str(path))
    return [*_parts(content), *_backbones(content, root, str(path))]


def _parts(content: Mapping[str, Any]) -> Iterator[Listed]:
    for world, about in content["worlds"].items():
        for part in about["parts"]:
            yield Listed(part_name(world, part), part, world, part_recipe(world, part), ())


def _backbones(content: Mapping[str, Any], root: Path | str, where: str) -> Iterator[Listed]:
    known = names("backbones", root)
    for name in content["backbones"]:
        if name not in known:
            raise ValueError(f"{where}: no backbone {name!r}{suggestion(name, known)}")
        own = load_params("backbones", name, root)
        world = str(own.get("world"))
        if world not in content["worlds"]:
            raise ValueError(
                f"{where}: {name} is trained on {own.get('world') or 'no world'}, which is none of its worlds"
            )
        needed = own.get("autoencoder", "autoencoder")
        if needed not in content["worlds"][world]["parts"]:
            raise ValueError(f"{where}: {name} needs the {needed} of {world} among its parts")
        excluded = own.get("pretrain", {}).get("exclude") or ()
        never = [*([excluded] if isinstance(excluded, str) else excluded)]
        about = content["worlds"][world]
        prompts = about.get("clips" if own.get("frames") else "prompts", "") if "judge" in about["parts"] else ""
        yield Listed(name, BACKBONE, world, recipe_of(own), (*never, *about.get("never_shown", ())), prompts)


def read_manifest(folder: Path | None = None) -> dict[str, Entry]:
    """Name -> entry of a zoo; empty if there is none. ValueError in one line for a manifest that is damaged."""
    folder = located(FOLDER) if folder is None else folder
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); {RESTORE.format(folder=path)}") from None
    try:
        check_schema(content, "manifest", str(path))
    except ValueError as error:
        raise ValueError(f"{error}; {RESTORE.format(folder=path)}") from None
    return {name: _entry(values) for name, values in content["entries"].items()}


def _entry(values: Mapping[str, Any]) -> Entry:
    lists = {key: tuple(values[key]) for key in ("never_shown", "figures")}
    files = {path: Stored(**file) for path, file in values["files"].items()}
    return Entry(**{**values, **lists, "files": files})


def content_digest(entry: Entry) -> str:
    """The sha256 of an entry's files and their names: what a job that takes it is compared by."""
    text = "\n".join(f"{path} {file.sha256}" for path, file in sorted(entry.files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def taken(entries: Mapping[str, Entry], name: str, recipe: Mapping[str, Any]) -> Entry | None:
    """The entry of that name, if it was made by this recipe; None if there is none, or by another one."""
    entry = entries.get(name)
    return entry if entry is not None and entry.recipe_sha256 == digest_of(recipe) else None


def changed(entry: Entry, recipe: Mapping[str, Any]) -> list[str]:
    """The keys by which a recipe differs from that of an entry, dotted."""
    return sorted(_differing(entry.recipe, recipe))


def set_aside(entries: Mapping[str, Entry], backbones: Iterable[str], root: Path | str = "params") -> list[str]:
    """A line for each of some backbones that the zoo has and whose file is another recipe: it is trained here. The line
    says what differs and what to run.
    """
    said = []
    for name in backbones:
        recipe, entry = recipe_of(load_params("backbones", name, root)), entries.get(name)
        if entry is not None and taken(entries, name, recipe) is None:
            file, keys = f"params/backbones/{name}.yaml", ", ".join(changed(entry, recipe))
            said.append(
                f"{name} is trained here: the zoo's was trained with another {keys}; to take that one, restore {file} "
                f"(git checkout -- {file}); to renew it: snakemake zoo, then python -m stages.zoo add {name}"
            )
    return said


def _differing(one: Any, other: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {*one, *other}:
            yield from _differing(one.get(key), other.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif one != other:
        yield prefix
