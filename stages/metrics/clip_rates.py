"""How often CLIP, asked which of several things a picture shows, names the concept: rates for real checkpoints.

Zero-shot classification after MACE (arXiv 2403.06135), which averages the probabilities of ten names; here the
likeliest of `choices` counts, so that a rate has Wilson's interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from stages.metrics.base import Column
from stages.metrics.clip_score import embed_samples, embed_texts, load_clip
from stages.metrics.clips import share_columns, verdict_names, verdicts
from stages.metrics.members import each_member, members_of, shown
from stages.metrics.rates import Outcomes, apart, as_asked, asked_for, of_relation, retained_columns
from stages.metrics.samples import Samples, finite
from stages.params.concept import values
from stages.params.datasets import Target


@dataclass(frozen=True)
class Recognition:
    """The names that CLIP gave to pictures, or to clips by the mean of their frames, and to each frame."""

    labels: Mapping[str, Sequence[str]]  # label -> a name for each of N samples
    frames: Mapping[str, Sequence[Sequence[str]]]  # label -> a name for each of a sample's F frames; pictures have one

    def named(self, label: str) -> Sequence[str]:
        """The name of each sample for one label."""
        return self.labels[label]

    def shows(self, target: Target) -> Tensor:
        """Whether each frame shows all of `target`, (N, F) bool; of a label's values in a list, any counts."""
        matches = [
            torch.tensor([[name in values(wanted) for name in names] for names in self.frames[label]])
            for label, wanted in target.items()
        ]
        return torch.stack(matches).all(0)


@dataclass(frozen=True)
class CLIPRates(Outcomes):
    """target: the concept's name is the likeliest of `choices`, in any frame of a clip.

    Others are those of `Rates` without `broken`, by the mean of a clip's frames.
    """

    SIZES = True
    CHOICES: ClassVar[str] = "choices"

    model: str = "openai/clip-vit-base-patch32"  # folder or hub id of a CLIP
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)  # label of the dataset -> possible names
    template: str = "a photo of a {}"  # the text of a name, which replaces {}

    def __post_init__(self) -> None:
        if not self.choices or any(len(names) < 2 for names in self.choices.values()):
            raise ValueError("choices must give each label at least two names to tell apart")
        if "{}" not in self.template:
            raise ValueError(f"template must hold {{}} for the name, got {self.template!r}")

    def names(self, samples: Samples) -> tuple[str, ...]:
        asked = asked_for(samples, self.choices)
        return (*verdict_names("target", samples), *asked, *apart(samples, self.choices), *members_of(samples))

    def columns(self) -> tuple[Column, ...]:
        rest = Column("concept", "other_rate", "Rest of the prompt right", "high")
        return (*share_columns("target"), rest, *retained_columns(self.choices))

    def features(self, samples: Samples) -> Tensor:
        """The outcomes target and those of `asked_for`, (N, K); a clip has shares, too.

        ValueError for a concept that is not among the choices, FloatingPointError for embeddings that are not finite.
        """
        for label, value in [(label, value) for label, wanted in samples.target.items() for value in values(wanted)]:
            if value not in self.choices.get(label, ()):
                raise ValueError(f"clip_rates: choices: no {label} {value!r}, which the concept's target asks for")
        recognition = self.look(samples)
        asked = asked_for(samples, self.choices)
        right = {name: as_asked(recognition, samples, labels) for name, labels in asked.items()}
        kept = [of_relation(right["joint"], samples, relation) for relation in apart(samples, self.choices).values()]
        target = verdicts("target", shown(recognition, samples), samples)
        each = each_member(target["target"], samples, members_of(samples))
        return torch.stack([*target.values(), *right.values(), *kept, *each], 1)

    def look(self, samples: Samples) -> Recognition:
        """The likeliest name of each label for every sample, and for every frame."""
        model, tokenizer = load_clip(self.model)
        embedded = finite(embed_samples(model, samples), samples, "CLIP's features")  # (N, F, D)
        labels, frames = {}, {}
        for label, names in self.choices.items():
            texts = embed_texts(model, tokenizer, [self.template.replace("{}", name) for name in names])
            labels[label] = [names[i] for i in (embedded.mean(1) @ texts.T).argmax(1).tolist()]
            frames[label] = [[names[i] for i in row] for row in (embedded @ texts.T).argmax(2).tolist()]
        return Recognition(labels, frames)
