"""The one objective of all searches: what was erased of a concept, less what was lost of everything else.

    erased = mean over s in {concept, synonym} of 1 - clip((seen_s - floor_s) / (unedited_s - floor_s), 0, 1)
    lost   = max over r in {seen, near, far} of max(0, clip(1 - right_r / unedited_r, 0, 1) - margin) / (1 - margin)
    objective = erased - lost, the mean over the concepts that are tuned on

`seen_s` is the share of pictures of a set that show the concept, `right_r` the share in which all that the prompt asks
for is right, `unedited` the same share of the model without an edit, on the same prompts and noise. `floor_s` is the
share in which a model shows the concept that has never seen it: an oracle's or, without one, the chance level that the
protocol declares for the concept's label, or, without that, the unedited model's share on the neutral twins. `margin`
is the protocol's `kept_margin`. Every part is a rate in [0, 1], the objective in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

ERASED = ("concept", "synonym")  # sets in which the concept is asked for
RETAINED = ("seen", "near", "far")  # sets in which it is not, by how near they are to it
LEAST = 0.2  # by which the unedited model must show the concept above the floor, for a set to count

Shares = Mapping[str, float]  # by set, each in [0, 1]


@dataclass(frozen=True)
class Score:
    """What a method did to one concept: the parts of the objective, each a rate in [0, 1]."""

    erased: Mapping[str, float]  # of what the unedited model shows above the floor, by set
    lost: Mapping[str, float]  # beyond the margin, of what the unedited model gets right, by set

    @property
    def objective(self) -> float:
        """Erased in the mean, less lost in the set that lost most; in [-1, 1]."""
        return fmean(self.erased.values()) - max(self.lost.values())

    def listed(self) -> dict[str, Any]:
        """As primitives, for a log."""
        return asdict(self) | {"objective": self.objective}


def score(edited: Shares, unedited: Shares, floor: Shares, margin: float) -> Score:
    """The parts of the objective for one concept, from the shares of its sets.

    A set that is not among the shares does not count, nor one whose concept the unedited model hardly shows above the
    floor. ValueError if that leaves nothing to erase or to retain.
    """
    shown = [s for s in ERASED if s in unedited and unedited[s] - floor[s] >= LEAST]
    if not shown:
        have = ", ".join(f"{s} {unedited[s]:.0%} with a floor of {floor[s]:.0%}" for s in ERASED if s in unedited)
        raise ValueError(f"the unedited model does not show the concept, so nothing can be erased: {have or 'no set'}")
    kept = [r for r in RETAINED if unedited.get(r, 0.0) > 0]
    if not kept:
        raise ValueError("the unedited model gets no retained picture right, so that nothing can be lost")
    erased = {s: 1 - clipped((edited[s] - floor[s]) / (unedited[s] - floor[s])) for s in shown}
    lost = {r: beyond(clipped(1 - edited[r] / unedited[r]), margin) for r in kept}
    return Score(erased, lost)


def beyond(lost: float, margin: float) -> float:
    """What is lost beyond the margin, as a share of what can be."""
    return max(0.0, lost - margin) / (1 - margin)


def clipped(share: float) -> float:
    """A share that noise took out of [0, 1], put back."""
    return min(max(share, 0.0), 1.0)
