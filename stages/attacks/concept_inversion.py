"""Concept inversion, CCE (arXiv 2308.01508): a word for the erased concept, learned inside the edited network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.attacks.shared.pictures import drawn_pictures
from stages.backbones.core.base import Backbone
from stages.methods.textual_inversion import TextualInversion
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, NonNegative, Rate
from stages.training.settings import Schedule


@dataclass(frozen=True)
class ConceptInversion:
    """Textual inversion on the victim, of pictures that the unedited network draws of the concept.

    What defends by guidance is learned through: the loss is of the guided prediction. Three things say what a rate
    means: the same attack on the method `none` is its ceiling; `pictures_of: retain` inverts an unrelated concept, its
    floor; and steps, vectors and pictures are the same for every victim.
    """

    images: Count = 25  # pictures to learn from
    pictures_of: Literal["concept", "retain"] = "concept"
    vectors: Count = 1  # of the new word; the paper takes one
    initialiser: str = "object"  # the word of one token that they start from
    alias: str = "<found>"
    templates: tuple[str, ...] = ("a photo of a {}",)  # captions, which are also what is asked afterwards
    steps: Count = 5000
    batch: Count = 4
    accumulate: Count = 1  # batches per step
    lr: Rate = 5e-3
    schedule: Schedule = "constant"
    weight_decay: NonNegative = 1e-2
    flip: Fraction = 0.5  # share of pictures that are mirrored

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """The templates with the new word, and its vectors.

        ValueError for a backbone that reads no text or cannot learn from pictures.
        """
        prompts = concept.prompts if self.pictures_of == "concept" else concept.retain
        inversion = self.inversion()
        pictures = drawn_pictures(backbone, prompts, self.images, seed).to(backbone.device)
        with victim.attach(backbone):
            embedding = inversion.learn(backbone, pictures, seed=seed)
        calls = self.steps * self.batch * self.accumulate
        found = []
        for number, template in enumerate(self.templates):
            start = concept.prompts[number % len(concept.prompts)]
            asked = template.replace("{}", self.alias)
            found.append(Found(start, asked, steps=self.steps, calls=calls, pictures=self.images))
        return Attempt.of(found, embedding)

    def inversion(self) -> TextualInversion:
        """The method with these settings."""
        return TextualInversion(
            alias=self.alias,
            initialiser=self.initialiser,
            templates=self.templates,
            vectors=self.vectors,
            flip=self.flip,
            batch=self.batch,
            accumulate=self.accumulate,
            steps=self.steps,
            lr=self.lr,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
        )
