"""Adding to a zoo, checking it, and making the folders that pipelines load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

from stages.params.zoo import MANIFEST, RESTORE, Entry, Stored, read_manifest
from stages.store.files import replacing, write_json, write_text
from stages.store.zoo.cards import CARD, card
from stages.store.zoo.weights import SUFFIX, halved, restored

SHARED = "shared"  # the folder of files that several entries have
LIMIT = 96_000_000  # bytes of a zoo in git


def add(zoo: Path, name: str, source: Path, about: Entry) -> Entry:
    """Puts the files of a folder into the zoo under a name, their weights in about.dtype, and returns the entry.

    A file that another entry has, too, is stored once. ValueError for files that cannot be stored, and for a zoo that
    would grow over `LIMIT`; nothing is written then.
    """
    others = {other: entry for other, entry in read_manifest(zoo).items() if other != name}
    contents, rounding = _stored(source, about.dtype)
    known = {file.sha256: file for entry in others.values() for file in entry.files.values()}
    new = {file.sha256: len(content) for file, content in contents.values() if file.sha256 not in known}
    total = sum({file.sha256: file.bytes for file in known.values()}.values()) + sum(new.values())
    if total > LIMIT:
        raise ValueError(f"{name}: the zoo would have {total / 1e6:.1f} MB; git takes {LIMIT / 1e6:.0f} at most")
    wanted = {file.sha256 for file, _ in contents.values()}
    moves = {sha: _shared(file) for sha, file in known.items() if sha in wanted}
    places = dict(moves)
    files = {}
    with replacing(zoo / name) as folder:
        folder.mkdir()
        for path, (file, content) in contents.items():
            if file.sha256 not in places:
                places[file.sha256] = f"{name}/{path}"
                _write_bytes(folder / path, content)
            files[path] = replace(file, stored=places[file.sha256])
        entry = replace(about, rounding=rounding, files=files)
        (folder / CARD).write_text(card(name, entry), encoding="utf-8")
    for sha, place in moves.items():
        if not (zoo / place).is_file():
            _write_bytes(zoo / place, read(zoo, known[sha]))
    entries = {other: _relinked(entry, moves) for other, entry in others.items()} | {name: entry}
    _write(zoo, entries)
    _forget(zoo, entries)
    return entry


def check(zoo: Path) -> dict[str, Entry]:
    """The entries, every file as it was added; FileNotFoundError or ValueError names the first that is not."""
    entries = read_manifest(zoo)
    if not entries:
        raise FileNotFoundError(f"{zoo}: no {MANIFEST}, so no zoo; make it with: snakemake zoo")
    for name, entry in entries.items():
        for file in entry.files.values():
            read(zoo, file)
        path = zoo / name / CARD
        if not path.is_file() or path.read_text(encoding="utf-8") != card(name, entry):
            raise ValueError(f"{path} is not the card of its entry; {RESTORE.format(folder=path)}")
    wanted = _wanted(zoo, entries)
    if others := sorted(path for path in zoo.rglob("*") if path.is_file() and path not in wanted):
        raise ValueError(f"{others[0]} belongs to no entry; remove it, or add it with: python -m stages.zoo add")
    if (total := size(entries)) > LIMIT:
        raise ValueError(f"{zoo}: {total / 1e6:.1f} MB; git takes {LIMIT / 1e6:.0f} at most")
    return entries


def take(zoo: Path, entry: Entry, out: Path) -> None:
    """Writes the folder that was added, weights in the type that they had, whole or not at all; errors as `check`."""
    with replacing(out) as folder:
        folder.mkdir()
        fill(zoo, entry, folder)


def fill(zoo: Path, entry: Entry, folder: Path) -> None:
    """Writes the files of an entry into a folder."""
    for path, file in entry.files.items():
        content = read(zoo, file)
        _write_bytes(folder / path, restored(content, file.was) if file.was else content)


def read(zoo: Path, file: Stored) -> bytes:
    """The bytes of a stored file; FileNotFoundError or ValueError in one line for one that is missing or altered."""
    path = zoo / file.stored
    advice = RESTORE.format(folder=path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {advice}")
    content = path.read_bytes()
    if len(content) != file.bytes:
        raise ValueError(f"{path} is damaged: {len(content)} bytes instead of {file.bytes}; {advice}")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError(f"{path} is damaged: its sha256 is not that of the manifest; {advice}")
    return content


def size(entries: Mapping[str, Entry]) -> int:
    """The bytes of all files, shared ones once."""
    return sum({file.sha256: file.bytes for entry in entries.values() for file in entry.files.values()}.values())


def _stored(source: Path, dtype: str) -> tuple[dict[str, tuple[Stored, bytes]], float]:
    """Path -> file as it will be stored; its place comes later. And the largest relative error of a tensor."""
    paths = [path for path in sorted(source.rglob("*")) if path.is_file() and _counts(path.relative_to(source))]
    if not paths:
        raise FileNotFoundError(f"{source}: no files to add; train them with: snakemake zoo")
    contents, worst = {}, 0.0
    for path in paths:
        was, error = None, 0.0
        if path.suffix == SUFFIX:
            content, was, error = halved(path, dtype)
        else:
            content = path.read_bytes()
        file = Stored(hashlib.sha256(content).hexdigest(), len(content), "", was)
        contents[path.relative_to(source).as_posix()] = (file, content)
        worst = max(worst, error)
    return contents, worst


def _counts(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts) and not path.name.startswith("record-")


def _shared(file: Stored) -> str:
    """The place of a file that several entries have."""
    path = PurePosixPath(file.stored)
    return file.stored if path.parts[0] == SHARED else f"{SHARED}/{file.sha256[:12]}/{path.name}"


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _relinked(entry: Entry, moves: Mapping[str, str]) -> Entry:
    files = {path: replace(file, stored=moves.get(file.sha256, file.stored)) for path, file in entry.files.items()}
    return replace(entry, files=files)


def _write(zoo: Path, entries: Mapping[str, Entry]) -> None:
    write_json(zoo / MANIFEST, {"format": 1, "entries": {name: asdict(entries[name]) for name in sorted(entries)}})
    for name, entry in entries.items():
        write_text(zoo / name / CARD, card(name, entry))


def _forget(zoo: Path, entries: Mapping[str, Entry]) -> None:
    """Removes files that no entry has any more, and empty folders."""
    wanted = _wanted(zoo, entries)
    for path in [path for path in zoo.rglob("*") if path.is_file() and path not in wanted]:
        path.unlink()
    for folder in sorted((path for path in zoo.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _wanted(zoo: Path, entries: Mapping[str, Entry]) -> set[Path]:
    stored = {zoo / file.stored for entry in entries.values() for file in entry.files.values()}
    return {zoo / MANIFEST, *(zoo / name / CARD for name in entries), *stored}
