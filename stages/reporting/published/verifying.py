"""Published results derived again from single pictures' outcomes, and compared with what is printed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.reporting.collect import gather
from stages.reporting.numbers import Numbers
from stages.reporting.published.compare import difference
from stages.reporting.published.layout import ABOUT, DAMAGED, TABLES, read_text
from stages.reporting.published.unpacking import Derived, Published, read, unpack
from stages.reporting.tables import results
from stages.reporting.texts import all_numbers, table_texts


@dataclass(frozen=True)
class Tables:
    """The tables that outcomes give."""

    texts: Mapping[str, str]  # file name -> text
    numbers: Numbers
    derived: Derived


def published_in(root: Path) -> list[Path]:
    """The folder if it holds published results, or those of its folders that do; FileNotFoundError for none."""
    folders = [root] if (root / ABOUT).is_file() else sorted(path.parent for path in root.glob(f"*/{ABOUT}"))
    if not folders:
        raise FileNotFoundError(f"{root}: no published results, which have a {ABOUT}; make them with stages.publish")
    return folders


def tables(published: Published) -> Tables:
    """Derives every table; ValueError names a number of a run that its outcomes do not give."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-") as tree:
        derived = unpack(published, Path(tree))
        study = gather(published.outline, tree)
        numbers = all_numbers(study)
        return Tables(table_texts(study, results(study, numbers), numbers), numbers, derived)


def verify(folder: Path) -> str:
    """A sentence on what was compared; ValueError or FileNotFoundError names the first cell or file that differs."""
    published = read(folder)
    found = tables(published)
    for name, text in found.texts.items():
        if said := difference(name, read_text(folder / TABLES / name), text):
            raise ValueError(f"{folder / TABLES / name}: {said}")
    _check_files(folder, published.about["files"])
    derived, cells = found.derived, sum(text.count("\n") for text in found.texts.values())
    stand = f"; {derived.stored:,} need features and stand as measured ({', '.join(derived.kinds)})"
    return (
        f"{folder}: {len(found.texts)} tables of {cells:,} lines follow from {derived.pictures:,} pictures' outcomes: "
        f"{derived.derived:,} numbers of single runs derived{stand if derived.stored else ''}"
    )


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file but the one that holds them, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ABOUT)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    found = digests(folder)
    for name, digest in files.items():
        path = folder / name
        if name not in found:
            raise FileNotFoundError(f"{path} is missing; {DAMAGED.format(path=path)}")
        if found[name] != digest:
            raise ValueError(f"{path}: altered since it was published; {DAMAGED.format(path=path)}")
    if others := sorted(found.keys() - files.keys()):
        raise ValueError(f"{folder / others[0]} is none of the published files; remove it")
