"""Published prompt files: where each one lies, how it is known to be the right one, and what its columns mean.

The files themselves are not part of this project: `python -m stages.fetch NAME` brings one from its authors.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.params.load import complaint, load_params, names, suggestion
from stages.params.project import located
from stages.params.types import Count, Natural

FOLDER = "artifacts/sources"  # of the fetched files, each in a folder of its source's name
RECORD = "source.json"  # beside a fetched file: what it is and how it was checked
BASE = "PALIMPSEST_SOURCES"  # the environment variable that names another host of repositories, such as a mirror
HOST, PAGES = "https://raw.githubusercontent.com", "https://github.com"
MIRRORS = ("raw.githubusercontent.com", "media.githubusercontent.com")  # hosts that the host may redirect to
# What a column may be mapped to; any other key is a label of the row, such as `part` or `artist`.
ROLES = ("prompt", "seed", "guidance", "width", "height", "neutral")
WHOLE = ("seed", "width", "height")

Place = Annotated[str, Field(pattern=r"^([\w.-]+/[\w.-]+)?$")]
Inside = Annotated[str, Field(pattern=r"^(([\w-][\w. -]*/)*[\w-][\w. -]*\.(csv|json))?$")]
Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Source(BaseModel):
    """A file of params/prompts/. The checks at fetching are its sha256, its rows and the columns that are used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str  # it holds, in a line
    repository: Place = ""  # owner/name of the code that it comes with
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")] = ""  # of that repository
    hub: Place = ""  # owner/name of a data set on the hub, in place of a repository
    path: Inside = ""  # of the file in it; empty for a data set whose file we have not seen
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # of the whole file; empty: not known to us
    rows: Count  # of prompts, the header not counted
    limit: Count = 16  # MB that the file has at most
    header: tuple[str, ...] = ()  # the names of its columns, if the file does not begin with them
    columns: dict[Label, str]  # ours -> the file's own; columns that are not named here are not used
    parts: dict[str, Natural] = Field(default_factory=dict)  # how many rows have each value of the column `part`
    asks: Literal["concept", "other"] = "concept"  # whether its prompts ask for the concept; with parts, `shows` does
    shows: tuple[str, ...] = ()  # the parts whose prompts ask for the concept
    license: str  # as its authors state it; `none found` if nothing there says
    gated: bool = False  # whether the authors' terms have to be accepted first
    copies: tuple[str, ...] = ()  # other places of the same bytes, as repository@commit:path

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.repository) == bool(self.hub):
            raise ValueError("one of repository and hub must be given, and not both")
        if self.repository and not self.commit:
            raise ValueError("a repository needs a commit: a branch changes without notice")
        if self.repository and not self.path:
            raise ValueError("a repository needs the path of the file in it")
        if "prompt" not in self.columns:
            raise ValueError("columns: prompt is missing")
        if bool(self.parts) != ("part" in self.columns):
            raise ValueError("parts and the column `part` belong together")
        if self.parts and sum(self.parts.values()) != self.rows:
            raise ValueError(f"parts come to {sum(self.parts.values())} rows, and rows says {self.rows}")
        if unknown := set(self.shows) - set(self.parts):
            raise ValueError(f"shows: no part {sorted(unknown)[0]!r}")
        return self

    @property
    def file(self) -> str:
        """The name of the fetched file."""
        return self.path.rpartition("/")[2] or "prompts.csv"

    @property
    def page(self) -> str:
        """Where a person reads of it and of its licence."""
        return f"{PAGES}/{self.repository}" if self.repository else f"{hub_base()}/datasets/{self.hub}"


def load_source(name: str, root: Path | str = "params") -> Source:
    """The source of params/prompts/<name>.yaml; ValueError names the file and the key that is wrong."""
    content = load_params("prompts", name, root)
    where = f"params/prompts/{name}.yaml"
    known = list(Source.model_fields)
    for key in content:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion(str(key), known)}")
    try:
        return Source(**content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        said = str(first["ctx"]["error"]) if first["type"] == "value_error" else complaint(error)
        raise ValueError(f"{where}: {f'{key}: ' if key else ''}{said}") from None


def source_names(root: Path | str = "params") -> list[str]:
    """The names of all sources, sorted."""
    return names("prompts", root)


def base() -> str:
    """Where the files of repositories lie: PALIMPSEST_SOURCES, or the code host's own address of raw files."""
    return (os.environ.get(BASE) or HOST).rstrip("/")


def hub_base() -> str:
    """Where the hub is: HF_ENDPOINT, as huggingface_hub reads it."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def address(source: Source) -> str:
    """Where the file of a source in a repository lies, the only place that composes it."""
    path = re.sub(r" ", "%20", source.path)
    return f"{base()}/{source.repository}/{source.commit}/{path}"


def fetched(name: str, source: Source) -> Path:
    """Where the fetched file of a source lies, or would."""
    return located(FOLDER) / name / source.file


def record_of(name: str) -> str:
    """The path of a source's record, as the workflow names it."""
    return f"{FOLDER}/{name}/{RECORD}"


def said_of(name: str, source: Source) -> dict[str, Any]:
    """What the record of a fetched file says: equal for equal files, wherever and whenever they were fetched."""
    keys = ("repository", "commit", "hub", "path", "sha256", "rows", "license")
    return {"source": name} | {key: value for key in keys if (value := getattr(source, key))}
