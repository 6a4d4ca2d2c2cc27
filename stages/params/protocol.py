"""The protocol of params/protocol.yaml: what settings are chosen on, what is reported, and by which bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from stages.params.load import LOADER, complaint
from stages.params.project import located

NAME = "protocol.yaml"
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Sides(BaseModel):
    """Names or seeds to choose settings by, and those to report; none is of both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tune: tuple[str | int, ...]
    report: tuple[str | int, ...]

    @pydantic.model_validator(mode="after")
    def _apart(self) -> Sides:
        both = sorted(map(str, {*self.tune} & {*self.report}))
        if both:
            raise ValueError(f"{both[0]} is to be tuned on and to be reported; choose one")
        return self


class SearchedOn(BaseModel):
    """What settings of methods are searched on, on one architecture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str  # a file of params/backbones/, of a seed to tune on
    concepts: tuple[str, ...]  # files of params/concepts/, of those to tune on
    oracle: str = ""  # a backbone that has seen none of them; without one, chance is as declared
    metric: str = "rates"  # a file of params/metrics/


class Protocol(BaseModel):
    """What every reported study keeps to, as docs/protocol.md explains it.

    >>> load_protocol().concepts.tune
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Count  # another one for every change; records and tables carry it
    concepts: Sides  # files of params/concepts/
    backbone_seeds: Sides  # of the trainings of a backbone
    trials: Count  # of settings, for each method and architecture
    searches: Mapping[str, SearchedOn]  # architecture -> what settings are searched on
    confidence: Share  # of intervals
    kept_margin: Share  # how much of the retained prompts may be lost, by the interval's bound
    rest_margin: Share  # how much of the rest of the concept's prompts may be lost, if the concept is to be drawn
    erased: Share  # how much of the concept may be left, of what the unedited model shows above the oracle
    shown: Share  # an unedited model that shows the concept less often leaves nothing to erase
    learned: Share  # how often a new word must show its object
    chance: Mapping[str, Mapping[str, Share]]  # world -> label -> how often a value of it shows that nothing asks for


def load_protocol(root: Path | str = "params") -> Protocol:
    """The protocol; ValueError for a file that is missing, or a key that is missing, unknown or wrong."""
    path = located(root) / NAME
    if not path.is_file():
        raise ValueError(f"{path} is missing: the protocol says what settings are chosen on; restore it from git")
    try:
        return Protocol.model_validate(yaml.load(path.read_text(encoding="utf-8"), LOADER))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except pydantic.ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ValueError(f"{path}: {key}: {complaint(error)}") from None


def protocol_version(root: Path | str = "params") -> int | None:
    """The version that a result made here keeps to; None in a folder without a protocol."""
    return load_protocol(root).version if (located(root) / NAME).is_file() else None


def check_tuning(concept: str, backbone: Mapping[str, object], where: str, root: Path | str = "params") -> None:
    """Raises a ValueError when settings are to be chosen on a concept or on a backbone's training that is reported.

    `backbone` is the content of its file, whose `trained` is the seed of its training, 0 without one.
    """
    protocol = load_protocol(root)
    if concept in protocol.concepts.report:
        have = ", ".join(map(str, protocol.concepts.tune))
        raise ValueError(f"{where}: split: tune: {concept} is a concept to report; tune on one of {have}")
    if backbone.get("trained", 0) in protocol.backbone_seeds.report:
        have = ", ".join(map(str, protocol.backbone_seeds.tune))
        raise ValueError(
            f"{where}: split: tune: a backbone of the seed {backbone['trained']} is to report; tune on seed {have}"
        )


def chance_of(target: Mapping[str, object], known: Mapping[str, float]) -> float | None:
    """How often a picture shows a target that nothing asks for, from the shares of its labels; None if one lacks."""
    if not target or any(label not in known for label in target):
        return None
    return math.prod(known[label] for label in target)
