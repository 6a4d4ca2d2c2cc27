"""Interventions on guidance: what the sampler combines, not what the network computes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stages.edits import Predictions, edit_guidance
from stages.interventions.base import Intervention
from stages.sites import Moment

if TYPE_CHECKING:
    from stages.backbones.base import Backbone


class NegativePrompt(Intervention):
    """Guides away from a prompt in place of the empty one, mixed in by `strength` in [0, 1]."""

    def __init__(self, prompt: str, strength: float = 1.0) -> None:
        super().__init__()
        self.prompt, self.strength = prompt, strength

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Asks the sampler for the negative prompt's prediction too, and puts it in the place of `uncond`."""
        return edit_guidance(backbone, self._edit, {"negative": self.prompt})

    def _edit(self, predictions: Predictions, at: Moment) -> Predictions:
        if "negative" not in predictions or self.strength == 0:
            return predictions
        uncond, negative = predictions["uncond"], predictions["negative"]
        mixed = negative if self.strength == 1 else uncond + self.strength * (negative - uncond)
        return {**predictions, "uncond": mixed}

    def spec(self) -> dict[str, Any]:
        """Prompt and strength."""
        return {"prompt": self.prompt, "strength": self.strength}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> NegativePrompt:
        """From prompt and strength."""
        return cls(**spec)
