"""The project folder: where params/, data/ and artifacts/ are looked for, whatever the current folder is.

It is the folder that PALIMPSEST_HOME names, or the one at hand. If the one at hand is no project, what is not in it is
read from the files that came with the package: those of the clone that it is imported from, or those of the wheel.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HOME = "PALIMPSEST_HOME"  # the environment variable that names the project folder
PACKAGE = Path(__file__).parents[1]
PARTS = ("params", "data", "Snakefile", "workflow", "profiles")  # that a project is made of
ZOO = "zoo"  # the folder of data/ that is fetched, not copied


def home() -> Path:
    """The project folder: the one that PALIMPSEST_HOME names, or the current one."""
    return Path(os.environ.get(HOME) or "")


def is_project(folder: Path) -> bool:
    """Whether a folder has parameters of its own, so that nothing is read from elsewhere."""
    return (folder / "params").is_dir()


def shipped() -> Path:
    """The folder with the files that came with the package: the clone's, or those inside an installed wheel."""
    clone = PACKAGE.parent
    return clone if is_project(clone) else PACKAGE / "project"


def located(path: Path | str) -> Path:
    """A path of a project's file as it can be opened from the current folder; absolute ones stay as they are.

    Outside a project, and without PALIMPSEST_HOME, a file that is not at hand is that of the package.
    """
    here = home() / path
    if Path(path).is_absolute() or os.environ.get(HOME) or is_project(home()) or here.exists():
        return here
    own = shipped() / path
    return own if own.exists() else here


def writable() -> Path:
    """The project folder, to write into; ValueError with the way out if there is none."""
    if not is_project(home()):
        named = f"{HOME} names {home().absolute()}, which" if os.environ.get(HOME) else f"{Path.cwd()}"
        raise ValueError(f"{named} is no project folder (it has no params/); make one with: palimpsest init FOLDER")
    return home()


def make(folder: Path) -> list[str]:
    """Makes a project folder of the package's files; the names of what was put into it.

    ValueError, before anything is written, if one of them is there already.
    """
    parts = [part for part in PARTS if (shipped() / part).exists()]
    if "params" not in parts:
        raise FileNotFoundError(f"{shipped() / 'params'} is missing; install the package again")
    for part in parts:
        if (folder / part).exists():
            raise ValueError(f"{folder / part} is there already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        source = shipped() / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=_ignored)
        else:
            shutil.copyfile(source, folder / part)
    return parts


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Of a folder's names those that are not copied."""
    return {"__pycache__"} | ({ZOO} if Path(folder).name == "data" else set())
