"""Textual inversion (arXiv 2208.01618): a new word learned from a few pictures, the network untouched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Learns, needs
from stages.interventions.embedding import Embedding, Mode, identity, initial_vectors, parts_of
from stages.params.concept import Concept
from stages.params.types import Count, Folder, Fraction, NonNegative, Rate
from stages.store.pictures import read_folder
from stages.training.minimize import Schedule, generator, minimize


@dataclass
class TextualInversion:
    """Trains the vectors of one alias on pictures captioned with it; prompts may then use the alias like any word.

    `input` replaces token embeddings, as in the paper; `output` the encoded tokens, around which everything is still
    the initialiser's but the pooled text that some networks read, which gets a shift of its own. `vectors` writes the
    initialiser so many times, each with a vector of its own; `shared` trains one for all. `control` gives zeros or
    random vectors of the initial length instead of learned ones.
    """

    images: Folder = ""
    alias: str = "<new>"
    initialiser: str = "object"
    templates: tuple[str, ...] = ("a photo of a {}",)
    mode: Mode = "input"
    vectors: Count = 1
    shared: bool = False
    steps: Count = 5000
    batch: Count = 4
    lr: Rate = 5e-3
    weight_decay: NonNegative = 1e-2
    schedule: Schedule = "constant"
    flip: Fraction = 0.5
    control: Literal["none", "zero", "random"] = "none"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Embedding:
        """Learns from every picture of the folder; only the vectors train."""
        learner = needs(backbone, Learns, "choose a backbone that is trained on pictures")
        if not backbone.texts.tokenizers:
            raise ValueError(f"{backbone.name} reads no text, so there is no word to learn")
        wrong = [template for template in self.templates if "{}" not in template]
        if wrong or not self.templates:
            raise ValueError(f"templates: each needs {{}} where the word goes, got {wrong or self.templates!r}")
        if not self.initialiser.strip():
            raise ValueError("initialiser: a word to start from is needed, got none")
        embedding = self.start(backbone, parts_of(backbone, self.mode))
        if self.control != "none":
            return _control(embedding, self.control, seed)
        pictures = read_folder(self.images, backbone.picture_size()).to(backbone.device)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = torch.randint(len(pictures), (self.batch,), generator=generator)
            flips = torch.rand(self.batch, generator=generator) < self.flip
            batch = torch.where(flips.to(pictures.device)[:, None, None, None], pictures[rows].flip(-1), pictures[rows])
            template = self.templates[int(torch.randint(len(self.templates), (), generator=generator))]
            state, target = learner.examples(batch, generator)
            with embedding.attach(backbone):
                condition = backbone.encode([template.replace("{}", self.alias)]).repeat(self.batch)
                return backbone.distance(backbone.predict(state, condition), target)

        settings = {"steps": self.steps, "lr": self.lr, "weight_decay": self.weight_decay, "schedule": self.schedule}
        minimize(loss, embedding.parameters(), **settings, half=backbone.half, seed=seed, label="textual_inversion")
        return embedding.requires_grad_(False)

    def start(self, backbone: Backbone, parts: list[str]) -> Embedding:
        """The embedding whose vectors are the initialiser's own, ready to train."""
        words, template = " ".join([self.initialiser] * self.vectors), self.templates[0]
        vectors = {part: initial_vectors(backbone, part, template, words, self.mode) for part in parts}
        if self.shared:
            vectors = {part: rows.mean(0, keepdim=True) for part, rows in vectors.items()}
        parameters = {part: nn.Parameter(rows) for part, rows in vectors.items()}
        known = identity(backbone, parts)
        return Embedding(self.alias, words, parameters, mode=self.mode, template=template, identity=known)


@torch.no_grad()
def _control(embedding: Embedding, kind: str, seed: int) -> Embedding:
    draws = generator(seed, -1)
    for vectors in embedding.requires_grad_(False).vectors:
        if kind == "zero":
            vectors.zero_()
        else:
            noise = torch.randn(vectors.shape, generator=draws).to(vectors)
            vectors.copy_(noise * vectors.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))
    return embedding
