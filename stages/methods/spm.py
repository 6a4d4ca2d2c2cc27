"""SPM (arXiv 2312.16145): one-dimensional adapters with a gate, held by anchors around the concept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.backbones.core.base import Backbone
from stages.control.state import Condition, State
from stages.interventions.base import Intervention
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.membrane import Measure, Membrane, Permeability, gated_layers, text_features
from stages.methods.mace import apart
from stages.methods.shared.base import Prompts, States, frozen, reached
from stages.methods.shared.data import FromPairs
from stages.objectives import negative_guidance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Fraction, Needs, NonNegative, Rate, Refuses
from stages.seeds import Purpose, generator
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Schedule, Training

Anchoring = Literal["noise", "retain"]
TRIES = 1000  # draws of one anchor before it is taken as it is


@dataclass(frozen=True, kw_only=True)
class SPM(FromPairs, Training):
    """prediction(concept) -> p(surrogate) - scale (p(concept) - p(surrogate)), + anchor x the distance to the frozen
    network at other conditions, nearer ones less often. arXiv 2312.16145.

    Trains W x + B A x for all linear layers of attention and feed-forward, without a gate; a concept's `members` are
    one each. When pictures are drawn, each is as strong as the prompt is like the member's name.
    """

    READS: ClassVar[Reads] = {"states": {"frozen": "all"}}
    GATE: ClassVar[str] = "always"  # see stages.interventions.conditional
    NEEDS: ClassVar[Needs] = {
        "guidance": {"states": ("student", "fresh")},
        "anchors": {"anchor": True},
        "anchoring": {"anchor": True},
        "farness": {"anchor": True},
        "lengths": {"anchor": True, "anchoring": ("noise",)},
    }
    REFUSES: ClassVar[Refuses] = {
        "floor == 1": "a floor of 1 keeps every gate closed; choose one below",
        "lengths[0] > lengths[1]": "lengths: the shorter comes first, got {lengths[0]} and {lengths[1]}",
    }

    rank: Count = 1  # of A and B
    surrogate: Literal["empty", "neutral"] = "empty"  # what takes the concept's place
    scale: NonNegative = 1.0  # how far from the concept
    anchor: NonNegative = 1000.0  # weight of latent anchoring
    anchors: Count = 4  # conditions of it per step
    # `noise`: random embeddings about as long as the concept's; `retain`: retain prompts. Either is drawn with a
    # probability that is (1 - cosine to the concept) to the power `farness`.
    anchoring: Anchoring = "noise"
    farness: NonNegative = 1.0
    lengths: tuple[NonNegative, NonNegative] = (0.8, 1.2)  # of random embeddings, in lengths of the concept's
    states: States = "student"  # partial samples: of the network in training (the paper), or see States
    guidance: NonNegative = 3.0  # at which new ones are sampled
    measure: Measure = "both"  # likeness that opens the gate: of texts, of their tokens, or the larger of both
    floor: Fraction = 0.0  # likeness up to which the gate stays closed; the paper has none
    power: Rate = 1.0  # of the gate; the released code scales A and B by it, which is 2
    batch: Count = 1
    steps: Count = 3000
    lr: Rate = 1e-4
    schedule: Schedule = "cosine"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Membrane:
        """The membranes; ValueError for fields that contradict each other or a backbone that reads no text, KeyError if
        it has no blocks."""
        concept = self.learned(concept)
        permeability, members = Permeability(self.measure, self.floor, self.power), apart(concept)
        text_features(backbone.encode([""]))
        changes = [self.teach(backbone, member, seed, i) for i, member in enumerate(members)]
        names = [member.members or member.called() or member.prompts for member in members]
        return Membrane.of(backbone, changes, names, permeability)

    def teach(self, backbone: Backbone, concept: Concept, seed: int, index: int) -> LowRank:
        """The change of one concept, the `index`-th."""
        change = self.fresh(backbone, generator(Purpose.WEIGHTS, seed, index))
        prompts = Prompts.of(backbone, concept.prompts)
        surrogate = Prompts.of(backbone, [twin if self.surrogate == "neutral" else "" for _, twin in concept.pairs()])
        retain = backbone.encode(concept.retain) if self.anchoring == "retain" else None
        if self.states == "frozen":
            backbone.gather(concept.prompts, seed)

        def loss(step: int, draws: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, draws)
            asked = prompts.condition.rows(rows)
            state = reached(backbone, change, asked, draws, self.states, self.guidance)
            value = self.erasure(backbone, change, state, asked, surrogate.condition.rows(rows))
            if not self.anchor:
                return value
            return value + self.anchor * self.anchoring_loss(backbone, change, state, self.drawn(asked, retain, draws))

        companions = [LossScale(backbone.through_float16)]
        with change.injected(backbone):
            minimize(loss, change.parameters(), self, seed=seed, label=f"spm {index}", companions=companions)
        return change.folded()

    def fresh(self, backbone: Backbone, draws: torch.Generator) -> LowRank:
        """A change that does nothing yet, of every linear layer of attention and feed-forward."""
        blocks = [site.block for site in backbone.select("block", stream="image")]
        return LowRank.create(backbone, gated_layers(linear_layers(backbone, blocks)), self.rank, draws)

    def erasure(
        self, backbone: Backbone, change: Intervention, state: State, asked: Condition, surrogate: Condition
    ) -> Tensor:
        """The distance, a scalar, of the changed network's prediction to the frozen one pushed off the concept."""
        plain, shown = frozen(backbone, state, surrogate), frozen(backbone, state, asked)
        with change.attach(backbone):
            student = backbone.predict(state, asked)
        return backbone.distance(student, negative_guidance(plain, shown, self.scale))

    def anchoring_loss(self, backbone: Backbone, change: Intervention, state: State, anchors: Condition) -> Tensor:
        """The distance, a scalar, of the changed network to the frozen one at the anchors, on the states in turn."""
        wide = repeated(state, len(anchors))
        target = frozen(backbone, wide, anchors)
        with change.attach(backbone):
            return backbone.distance(backbone.predict(wide, anchors), target)

    def drawn(self, asked: Condition, retain: Condition | None, draws: torch.Generator) -> Condition:
        """`anchors` conditions for the concept's (B, ...): random ones around its rows in turn, or retained ones."""
        if retain is not None:
            return far_rows(asked, retain, self.farness, self.anchors, draws)
        around = asked.rows([i % len(asked) for i in range(self.anchors)])
        texts = {name: around.tensors[name] for name in ("embeds", "pooled") if name in around.tensors}
        return around.with_tensors(
            **{
                name: torch.stack([random_twin(row, self.farness, self.lengths, draws) for row in value])
                for name, value in texts.items()
            }
        )


def random_twin(row: Tensor, farness: float, lengths: tuple[float, float], draws: torch.Generator) -> Tensor:
    """A random vector of the row's shape, its length a uniform share of the row's within `lengths`.

    A direction is taken with probability (1 - its cosine to the row)^farness, at most 1. arXiv 2312.16145, as released.
    """
    for _ in range(TRIES):
        noise = torch.randn(row.shape, generator=draws).to(row.device, torch.float32)
        cosine = cosine_similarity(row.float().flatten(), noise.flatten(), dim=0)
        if torch.rand((), generator=draws) < (1 - float(cosine)) ** farness:
            break
    low, high = lengths
    share = low + (high - low) * float(torch.rand((), generator=draws))
    return (share * row.float().norm() / noise.norm() * noise).to(row.dtype)


def far_rows(asked: Condition, retain: Condition, farness: float, many: int, draws: torch.Generator) -> Condition:
    """`many` rows of retained prompts, each drawn with probability (1 - its cosine to a concept's row)^farness, the
    concept's rows in turn; all alike if every cosine is 1."""
    near = cosine_similarity(text_features(asked)[:, None], text_features(retain)[None], dim=2).cpu()
    weights = (1 - near).clamp_min(0) ** farness
    weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, torch.ones_like(weights))
    turns = [i % len(asked) for i in range(many)]
    return retain.rows(torch.multinomial(weights[turns], 1, generator=draws)[:, 0].tolist())


def repeated(state: State, many: int) -> State:
    """The state's rows in turn, `many` of them."""
    rows = [i % len(state) for i in range(many)]
    final = None if state.final is None else state.final[rows]
    return replace(state, latent=state.latent[rows], time=state.time[rows], final=final)
