"""GEM (arXiv 2606.00140): a LoRA that pulls the concept's velocity towards an anchor's and pushes it off its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Walks, needs
from stages.control.state import Condition, State
from stages.interventions.lowrank import LowRank
from stages.methods.shared.base import Prompts, frozen, run
from stages.methods.shared.data import FromPairs
from stages.methods.shared.preservation import Preservation
from stages.objectives import contrast
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Departs, Natural, Needs, NonNegative, Rate
from stages.seeds import Purpose, generator
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Training

TEXT_QUERIES = "add_q_proj"  # what attention has that reads a text stream of its own


@dataclass(frozen=True, kw_only=True)
class GEM(FromPairs, Training):
    """max(0, ||v - v_anchor|| - eta ||v - v_concept||) at the first states of a run of the network in training; the
    anchor is the neutral prompt, and both are the frozen network's. arXiv 2606.00140, eq. 13 and 14.

    Trains LoRA on queries and keys. Rows of the network per step, for T states (`window`) and G of guidance, 2 above 1:
    T x G x batch of the run and 2 x T x batch, without gradients; T x batch with gradients, all held until the step.
    """

    DEPARTS: ClassVar[Departs] = {"preserve > 0": "preserve: {preserve}"}
    READS: ClassVar[Reads] = {"preserve": "all"}
    NEEDS: ClassVar[Needs] = {"empty": {"preserve": True}}

    eta: NonNegative = 1.0  # how much pushing off counts
    window: Count = 11  # states from the run's first on
    guidance: NonNegative = 3.0  # at which the network in training makes the run
    rank: Count = 16  # of the LoRA
    lora_alpha: Rate = 16.0  # the LoRA counts lora_alpha / rank times
    preserve: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts; the paper has none
    empty: Natural = 0  # how many of these the empty prompt counts as, from which guidance starts
    batch: Count = 1
    steps: Count = 23
    lr: Rate = 1e-3
    weight_decay: NonNegative = 1e-2

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> LowRank:
        """The LoRA; ValueError for a backbone without a run of many steps, or fields that contradict each other."""
        concept = self.learned(concept)
        sampler = needs(backbone, Walks, "GEM trains on the states of one; choose esd")
        concepts, anchors = (Prompts.of(backbone, side) for side in zip(*concept.pairs(), strict=True))
        preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)
        options = {"scaling": self.lora_alpha / self.rank}
        draws = generator(Purpose.WEIGHTS, seed)
        lora = LowRank.create(backbone, queries_and_keys(backbone), self.rank, draws, **options)

        def loss(step: int, draws: torch.Generator) -> Tensor:
            rows = concepts.indices(self.batch, draws)
            asked, anchor = concepts.condition.rows(rows), anchors.condition.rows(rows)
            with torch.no_grad(), lora.attach(backbone):
                states = list(islice(run(sampler, backbone, asked, draws, self.guidance), self.states(backbone)))
            value = torch.stack([self.erasure(backbone, lora, state, asked, anchor) for state in states]).mean()
            return value + preservation(lora, self.batch, draws)

        with lora.injected(backbone):
            scale = LossScale(backbone.through_float16)
            minimize(loss, lora.parameters(), self, seed=seed, label="gem", companions=[scale])
        return lora.folded()

    def states(self, backbone: Backbone) -> int:
        """How many states of a run are trained on; the last one, which the network is not asked at, is none."""
        return min(self.window, backbone.calls(backbone.settings.steps))

    def erasure(self, backbone: Backbone, lora: LowRank, state: State, asked: Condition, anchor: Condition) -> Tensor:
        """The contrast, a scalar, of the student's prediction for the concept at one state."""
        towards, off = frozen(backbone, state, anchor), frozen(backbone, state, asked)
        with lora.attach(backbone):
            return contrast(backbone.predict(state, asked), towards, off, self.eta)


def queries_and_keys(backbone: Backbone) -> list[str]:
    """The linear layers that make queries and keys of cross-attention, or else of joint attention: of both streams, and
    only in blocks that have two if any do."""
    names: Sequence[str] = backbone.weights("cross_attn", "attn", projections=("query", "key"))
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
    double = {layer.rpartition(".")[0] for layer in layers if layer.endswith(TEXT_QUERIES)}
    return [layer for layer in layers if not double or layer.rpartition(".")[0] in double]
