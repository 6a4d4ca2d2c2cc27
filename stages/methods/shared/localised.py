"""Adapters that add nothing where the concept is not: what Receler and T2VUnlearning share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.sites import Site
from stages.control.state import Condition, State
from stages.interventions.adapter import Adapter
from stages.methods.shared.data import FromPrompts
from stages.objectives import Reduction, outside
from stages.params.types import Count, Fraction, Needs, NonNegative
from stages.reading.concept_masks import How, Locator


@dataclass(frozen=True, kw_only=True)
class Localised(FromPrompts):
    """Where adapters stand, and what they cost outside the concept's mask."""

    GATE: ClassVar[str] = "always"  # see stages.interventions.conditional
    NEEDS: ClassVar[Needs] = {
        "reduction": {"localise": True},
        "mask": {"localise": True},
        "side": {"localise": True, "mask": ("auto", "attention")},
        "threshold": {"localise": True, "mask": ("auto", "attention", "difference")},
    }

    rank: Count = 128  # inner width of an adapter
    kinds: tuple[str, ...] = ("cross_attn", "attn")  # adapters stand at the first kind that the network has
    localise: NonNegative = 1.0  # weight of what adapters add outside the concept's mask
    reduction: Reduction = "mean"  # of what they add there; `sum` is as papers print it
    mask: How = "auto"  # what the mask is made of
    side: int | None = None  # masks from attentions of side x side tokens; null: from all
    threshold: Fraction = 0.1  # from which share of a map's range on a token is inside

    def adapter(self, backbone: Backbone, seed: int) -> Adapter:
        """Fresh adapters, which change nothing yet; KeyError if the network has no site of these kinds."""
        return Adapter.fresh(backbone, backbone.select(*self.kinds, stream="image"), self.rank, seed)

    def elsewhere(self, added: Mapping[Site, Tensor], masks: Mapping[Site, Tensor]) -> Tensor:
        """The weighted cost, a scalar, of what is added (B, N, C) outside the masks (B, N)."""
        return self.localise * outside([added[site] for site in masks], list(masks.values()), self.reduction)

    def masks(
        self,
        backbone: Backbone,
        state: State,
        condition: Condition,
        empty: Condition,
        positions: Sequence[Sequence[int]],
        added: Mapping[Site, Tensor],
    ) -> dict[Site, Tensor]:
        """Where the concept is: masks (B, N) for what is added (B, N, C) at every site.

        `positions` are those of the concept's tokens in each prompt. ValueError if the network has no attention of
        that side.
        """
        tokens = {site: value.shape[1] for site, value in added.items()}
        locator = Locator(self.mask, self.threshold, self.side)
        return locator.masks(backbone, state, (condition, empty), positions, tokens)
