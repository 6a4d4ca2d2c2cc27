"""What is tuned of a method: a few fields and the values that they may take, in params/tuning/<method>.yaml.

Read by the Snakefile at parse time, so nothing here imports torch or optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.params import check
from stages.params.effect import check_effect
from stages.params.load import RESERVED, complaint, load_params, names, suggestion
from stages.params.types import Kind

MOST = 4  # fields that are searched at once: more than eight trials can tell anything about
WAYS = ("log", "linear", "integer", "choice")
Plain = bool | int | float | str
Way = Literal["log", "linear", "integer", "choice"]
Ends = tuple[float, float]


class Dimension(BaseModel):
    """The values that one field may take: exactly one of the four ways, and what trial 0 takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log: Ends | None = None  # the least and the most, drawn evenly on a logarithmic scale
    linear: Ends | None = None  # the least and the most, drawn evenly
    integer: tuple[int, int] | None = None  # whole numbers, the least and the most among them
    choice: tuple[Plain, ...] | None = None  # one of these
    first: Plain | None = None  # of trial 0; null: what the method's own file says

    @model_validator(mode="after")
    def _whole(self) -> Dimension:
        given = [way for way in WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"a field is searched in one of {', '.join(WAYS)}; got {', '.join(given) or 'none'}")
        if self.choice is not None and len({repr(value) for value in self.choice}) < 2:
            raise ValueError(f"a choice needs two values or more, got {list(self.choice)}")
        if self.choice is None and self.ends[0] >= self.ends[1]:
            raise ValueError(f"the least value must be below the most, got {list(self.ends)}")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"a logarithmic scale begins above 0, got {list(self.log)}")
        if self.first is not None and not self.holds(self.first):
            raise ValueError(f"first: {self.first!r} is none of its values, {self.shown()}")
        return self

    @property
    def way(self) -> Way:
        """The one of the four that is given."""
        ways: tuple[Way, ...] = ("log", "linear", "integer", "choice")
        return next(way for way in ways if getattr(self, way) is not None)

    @property
    def ends(self) -> Ends:
        """The least and the most of a range; ValueError for a choice."""
        found = self.log or self.linear or self.integer
        if found is None:
            raise ValueError("a choice has no ends")
        return found

    def extremes(self) -> tuple[Plain, ...]:
        """Values that stand for all of them where types and limits are checked."""
        return self.ends if self.choice is None else self.choice

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these."""
        if self.choice is not None:
            return any(value == one and type(value) is type(one) for one in self.choice)
        if isinstance(value, bool) or not isinstance(value, int if self.integer else (int, float)):
            return False
        return self.ends[0] <= value <= self.ends[1]

    def shown(self) -> str:
        """The values in words."""
        if self.choice is not None:
            return f"one of {', '.join(map(str, self.choice))}"
        return f"{self.ends[0]:g} to {self.ends[1]:g}"


Search = dict[str, Dimension]


class Part(BaseModel):
    """What differs on one architecture: fields of every trial, and other values of searched ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed: dict[str, Any] = {}
    search: Search = {}


class Space(BaseModel):
    """The content of params/tuning/<method>.yaml: what is searched, or why nothing is.

    fixed: {batch: 8}
    search:
      lr: {log: [1.0e-5, 1.0e-2], first: 1.0e-3}
      scale: {linear: [0.5, 4.0]}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nothing: str = ""  # why a method is not tuned; empty for one that is
    fixed: dict[str, Any] = {}  # fields laid over the method's own in every trial, trial 0 among them
    search: Annotated[Search, Field(max_length=MOST)] = {}  # the fields that are tuned
    architectures: dict[str, Part] = {}  # what differs on backbones of an architecture
    kinds: tuple[Kind, ...] = ()  # of concepts, each with a search and settings of its own; empty: one for all

    @model_validator(mode="after")
    def _either(self) -> Space:
        if bool(self.nothing) == bool(self.search):
            raise ValueError("a file says what is searched, or under `nothing` why nothing is")
        if self.nothing and (self.fixed or self.architectures or self.kinds):
            raise ValueError("a method of which nothing is tuned has no fields in the search")
        for name, part in self.architectures.items():
            if extra := sorted(set(part.search) - set(self.search)):
                raise ValueError(f"architectures: {name}: search: {extra[0]} is not searched on the others")
            if both := sorted(set(part.fixed) & set(self.search)):
                raise ValueError(f"architectures: {name}: fixed: {both[0]} is searched")
        if both := sorted(set(self.fixed) & set(self.search)):
            raise ValueError(f"fixed: {both[0]} is searched, too; leave it out of one")
        return self

    def on(self, architecture: str) -> Space:
        """The space on an architecture, whose own part is laid over the rest."""
        part = self.architectures.get(architecture, Part())
        fields = {"fixed": self.fixed | part.fixed, "search": self.search | part.search, "architectures": {}}
        return self.model_copy(update=fields)


def load_space(method: str, root: Path | str = "params") -> Space:
    """The space of params/tuning/<method>.yaml; ValueError names the file and what is wrong with it."""
    content = load_params("tuning", method, root)
    where = f"params/tuning/{method}.yaml"
    for key in content:
        if key not in Space.model_fields:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion(str(key), Space.model_fields)}")
    try:
        return Space.model_validate(content)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ValueError(f"{where}: {f'{place}: ' if place else ''}{complaint(error)}") from None


@dataclass(frozen=True)
class Searched:
    """The space of a method on a backbone, and what its trials start from."""

    space: Space  # on the backbone's architecture
    architecture: str
    base: Mapping[str, Any]  # the method's own fields, `class` among them, and the fixed ones over them
    first: Mapping[str, Plain]  # what trial 0 takes of the searched ones


def searched(method: str, backbone: str, root: Path | str = "params") -> Searched:
    """What is searched of a method on a backbone, every value of which its class takes; ValueError says what is wrong.

    A searched field must be one of the method's, have an effect, and hold what trial 0 takes.
    """
    where, whole = f"params/tuning/{method}.yaml", load_space(method, root)
    if whole.nothing:
        raise ValueError(f"{where}: nothing is tuned of {method}: {whole.nothing}")
    about = load_params("backbones", backbone, root)
    known = architectures(root)
    for name in whole.architectures:
        if name not in known:
            raise ValueError(f"{where}: no architecture {name!r}{suggestion(name, known)}")
    architecture = architecture_of(about)
    space, own = whole.on(architecture), own_fields(method, root)
    path, tree, base = own["class"], check.tree_of(root), own | space.fixed
    check.check_fields(space.fixed, path, f"{where}: fixed", root, whole=False)
    first = first_values(space, base, where, check.class_fields(path, where, tree))
    for field, dimension in space.search.items():
        for value in (first[field], *dimension.extremes()):
            check.check_fields({field: value}, path, f"{where}: search", root, whole=False)
    here = whole.architectures.get(architecture, Part()).fixed  # a fixed field of all may be idle beside these
    check_effect(path, own | whole.fixed | first, whole.fixed, where, tree=tree)
    check_effect(path, base | first, [*here, *space.search], where, family=about["family"], tree=tree)
    return Searched(space, architecture, base, first)


def own_fields(method: str, root: Path | str = "params") -> dict[str, Any]:
    """A method's fields, `class` among them, as its own file has them: nothing tuned."""
    content = load_params("methods", method, root)
    return {key: value for key, value in content.items() if key not in RESERVED or key == "class"}


def architecture_of(about: Mapping[str, Any]) -> str:
    """The architecture that a backbone's file says it has."""
    return str(about.get("architecture") or about["family"])


def architectures(root: Path | str = "params") -> list[str]:
    """Those that backbones have."""
    return sorted({architecture_of(load_params("backbones", name, root)) for name in names("backbones", root)})


def first_values(
    space: Space, base: Mapping[str, Any], where: str, known: Mapping[str, check.Field]
) -> dict[str, Plain]:
    """What trial 0 takes of each searched field: its `first`, else the method's own value, which must be among them."""
    values: dict[str, Plain] = {}
    for field, dimension in space.search.items():
        if field not in known:
            raise ValueError(f"{where}: search: unknown field {field!r}{suggestion(field, known)}")
        value = base.get(field, known[field].default) if dimension.first is None else dimension.first
        if not dimension.holds(value):
            raise ValueError(
                f"{where}: search: {field}: the method's own value, {value!r}, is not among {dimension.shown()}; "
                f"widen the range, or say under `first` what trial 0 takes"
            )
        values[field] = value
    return values
