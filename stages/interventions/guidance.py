"""Interventions on guidance: what the sampler combines, not what the network computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.control.edits import Predictions, edit_guidance, edit_samples, free_role
from stages.control.sites import Moment
from stages.interventions.base import Intervention

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone
    from stages.backbones.core.guidance import Guidance
    from stages.control.state import Condition, Sampler


class PromptGuidance(Intervention):
    """Guides away from a prompt in place of the empty one, mixed in by `strength`.

    `agreement` multiplies the strength by that power of the cosine of cond - uncond and negative - uncond, by 0 where
    the cosine is negative; at 0 the strength stays as it is. Several attached together add up: each moves `uncond` by
    its own share of negative - empty.
    """

    ROLE, EMPTY = "negative", "empty"  # EMPTY: the empty prompt's prediction, once `uncond` is another

    def __init__(self, prompt: str, strength: float = 1.0, agreement: float = 0.0) -> None:
        super().__init__()
        self.prompt, self.strength, self.agreement = prompt, strength, agreement

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Asks the sampler for the negative prompt's prediction too, and puts it in the place of `uncond`.

        Sampling in a way that `uncond` does not count in is a ValueError: at guidance 1 or less, or by a network that
        was distilled to be guided in one pass or not at all.
        """
        if self.strength == 0:
            yield
            return
        role = free_role(backbone, self.ROLE)
        edit, guarded = partial(self._edit, role=role), partial(guided_only, backbone)
        with edit_guidance(backbone, edit, {role: self.prompt}), edit_samples(backbone, guarded):
            yield

    def _edit(self, predictions: Predictions, at: Moment, role: str = ROLE) -> Predictions:
        if role not in predictions or self.strength == 0:
            return predictions
        uncond, negative = predictions["uncond"], predictions[role]
        empty = predictions.get(self.EMPTY, uncond)
        if self.agreement:
            share = likeness(predictions["cond"] - empty, negative - empty) ** self.agreement
            mixed = uncond + self.strength * share * (negative - empty)
        elif self.strength == 1 and self.EMPTY not in predictions:
            mixed = negative
        else:
            mixed = uncond + self.strength * (negative - empty)
        return {**predictions, "uncond": mixed, self.EMPTY: empty}

    def spec(self) -> dict[str, Any]:
        """Prompt and numbers."""
        return {"prompt": self.prompt, "strength": self.strength, "agreement": self.agreement}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> PromptGuidance:
        """From what `spec` says."""
        return cls(**spec)


def guided_only(backbone: Backbone, sampler: Sampler) -> Sampler:
    """The sampler, refusing to sample without classifier-free guidance."""

    def sample(condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        means = backbone.guider(condition, guidance).guidance
        if means.factor <= 1:
            raise ValueError(f"a negative prompt changes nothing on {backbone.name}{_why(backbone, means, guidance)}")
        return sampler(condition, seeds=seeds, steps=steps, guidance=guidance)

    return sample


def _why(backbone: Backbone, means: Guidance, guidance: float) -> str:
    if means.told is not None:
        return ", which is told its guidance and has no pass without the prompt; choose sld or a method that trains"
    if guidance > 1:
        return f", which is sampled without guidance (its own is {backbone.settings.guidance:g}); choose sld"
    return f" at guidance {guidance:g}: it takes above 1"


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of each row (B, ...) of one tensor with that of another, not below 0, to multiply rows by."""
    share = cosine_similarity(first.flatten(1), second.flatten(1), dim=1).clamp_min(0)
    return share.view(-1, *[1] * (first.ndim - 1))
