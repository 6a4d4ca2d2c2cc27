"""A backbone without its weights: enough to train one like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from stages.backbones.core.base import Backbone
from stages.backbones.core.family import Family
from stages.backbones.core.settings import Settings


@dataclass(frozen=True)
class Blueprint:
    """The name, the family and the settings of a backbone in params/backbones/."""

    name: str
    family: type[Family]
    settings: Settings

    @classmethod
    def of(cls, backbone: Backbone | Blueprint) -> Blueprint:
        """That of a backbone, loaded or not."""
        if isinstance(backbone, Blueprint):
            return backbone
        return cls(backbone.name, cast(type[Family], type(backbone)), backbone.settings)
