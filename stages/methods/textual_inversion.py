"""Textual inversion (arXiv 2208.01618): a new word learned from a few pictures, the network untouched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Learns, needs
from stages.interventions.embedding import Embedding, Mode, identity, initial_vectors, parts_of
from stages.interventions.starts import as_sampled
from stages.params.concept import Concept
from stages.params.pairs import of_concept
from stages.params.types import Count, Fraction, Needs, NonNegative, Pictures, Rate
from stages.seeds import Purpose, generator
from stages.store.pictures import read_folder
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class TextualInversion(Training):
    """v* = argmin_v E || eps - prediction(z_t, t, c(v)) ||^2 over pictures captioned with the alias; arXiv 2208.01618.

    Prompts may then use the alias like any word.
    """

    NEEDS: ClassVar[Needs] = {
        "data": {"control": ("none",)},
        "flip": {"control": ("none",)},
        "batch": {"control": ("none",)},
        "steps": {"control": ("none",)},
        "lr": {"control": ("none",)},
        "schedule": {"control": ("none",)},
        "warmup": {"control": ("none",)},
        "accumulate": {"control": ("none",)},
        "weight_decay": {"control": ("none",)},
        "clip": {"control": ("none",)},
        "optimizer": {"control": ("none",)},
        "betas": {"control": ("none",)},
        "eps": {"control": ("none",)},
        "ema": {"control": ("none",)},
    }

    data: Pictures = ""  # the folder of pictures; `{concept}` in it is the concept's name
    alias: str = "<new>"  # the new word
    initialiser: str = "object"  # words whose vectors the new ones start from
    templates: tuple[str, ...] = ("a photo of a {}",)  # captions, drawn at random
    # The vectors replace token embeddings (`input`, the paper) or encoded tokens (`output`); there a pooled text gets a
    # shift of its own, and all other tokens are encoded beside the initialiser.
    mode: Mode = "input"
    vectors: Count = 1  # how often the initialiser is written, each time with vectors of its own
    shared: bool = False  # one vector in place of all
    flip: Fraction = 0.5  # share of pictures that are mirrored
    control: Literal["none", "zero", "random"] = "none"  # zeros or random vectors of the initial length, not learned
    batch: Count = 4
    steps: Count = 5000
    lr: Rate = 5e-3
    weight_decay: NonNegative = 1e-2

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Embedding:
        """The learned vectors; ValueError for a backbone that reads no text, or templates without a place for the word,
        FileNotFoundError without pictures."""
        learner = self._check(backbone)
        embedding = self.start(backbone, parts_of(backbone, self.mode))
        if self.control != "none":
            return _control(embedding, self.control, seed)
        pictures = read_folder(of_concept(self.data, concept.name), learner.picture_size()).to(backbone.device)
        return self._learned(backbone, embedding, pictures, seed)

    def learn(self, backbone: Backbone, pictures: Tensor, *, seed: int) -> Embedding:
        """The vectors learned from pictures (n, 3, H, W) or clips (n, F, 3, H, W) in [0, 1]; ValueError as of `fit`.

        The backbone is learned from as it is now, guided where something edits its guidance. All rows of a step have
        one time, so that whatever is attached is told the sampler's step.
        """
        self._check(backbone)
        embedding = self.start(backbone, parts_of(backbone, self.mode))
        return self._learned(backbone, embedding, pictures, seed, together=True)

    def _check(self, backbone: Backbone) -> Learns:
        learner = needs(backbone, Learns, "choose a backbone that is trained on pictures")
        if not backbone.texts.tokenizers:
            raise ValueError(f"{backbone.name} reads no text, so there is no word to learn")
        wrong = [template for template in self.templates if "{}" not in template]
        if wrong or not self.templates:
            raise ValueError(f"templates: each needs {{}} where the word goes, got {wrong or self.templates!r}")
        if not self.initialiser.strip():
            raise ValueError("initialiser: a word to start from is needed, got none")
        return learner

    def _learned(
        self, backbone: Backbone, embedding: Embedding, pictures: Tensor, seed: int, *, together: bool = False
    ) -> Embedding:
        learner = needs(backbone, Learns, "choose a backbone that is trained on pictures")

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = torch.randint(len(pictures), (self.batch,), generator=generator)
            flips = torch.rand(self.batch, generator=generator) < self.flip
            mirrored = flips.to(pictures.device).view(-1, *[1] * (pictures.ndim - 1))
            batch = torch.where(mirrored, pictures[rows].flip(-1), pictures[rows])
            template = self.templates[int(torch.randint(len(self.templates), (), generator=generator))]
            state, target = learner.examples(batch, generator, together=together)
            with embedding.attach(backbone):
                condition = backbone.encode([template.replace("{}", self.alias)]).repeat(self.batch)
                return backbone.distance(as_sampled(backbone, state, condition), target)

        scale = LossScale(backbone.through_float16)
        minimize(loss, embedding.parameters(), self, seed=seed, label="textual_inversion", companions=[scale])
        return embedding.requires_grad_(False)

    def start(self, backbone: Backbone, parts: list[str]) -> Embedding:
        """The embedding before training: its vectors (n, D) are the initialiser's."""
        words, template = " ".join([self.initialiser] * self.vectors), self.templates[0]
        vectors = {part: initial_vectors(backbone, part, template, words, self.mode) for part in parts}
        if self.shared:
            vectors = {part: rows.mean(0, keepdim=True) for part, rows in vectors.items()}
        parameters = {part: nn.Parameter(rows) for part, rows in vectors.items()}
        known = identity(backbone, parts)
        return Embedding(self.alias, words, parameters, mode=self.mode, template=template, identity=known)


@torch.no_grad()
def _control(embedding: Embedding, kind: str, seed: int) -> Embedding:
    draws = generator(Purpose.WEIGHTS, seed)
    for vectors in embedding.requires_grad_(False).vectors:
        if kind == "zero":
            vectors.zero_()
        else:
            noise = torch.randn(vectors.shape, generator=draws).to(vectors)
            vectors.copy_(noise * vectors.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))
    return embedding
