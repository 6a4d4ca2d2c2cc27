"""How often CLIP, asked which of several things a picture shows, names the concept: rates for real checkpoints.

Zero-shot classification after MACE (arXiv 2403.06135), which averages the probabilities of ten names; here the
likeliest of `choices` counts, so that a rate has Wilson's interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from stages.metrics.base import Samples
from stages.metrics.clip_score import embed_frames, embed_texts, load_clip
from stages.metrics.rates import Outcomes, as_asked, asked_for


@dataclass(frozen=True)
class Recognition:
    """What each picture, or the mean of a clip's frames, is closest to: `labels["class"]` has a name for each."""

    labels: Mapping[str, Sequence[str]]

    def named(self, label: str) -> Sequence[str]:
        """Returns the name that CLIP chose for each picture."""
        return self.labels[label]

    def shows(self, target: Mapping[str, str]) -> Tensor:
        """Returns whether each picture shows all of `target`, (N,)."""
        seen = [torch.tensor([name == value for name in self.named(label)]) for label, value in target.items()]
        return torch.stack(seen).all(0)


@dataclass(frozen=True)
class CLIPRates(Outcomes):
    """`target`: the concept's name is the likeliest of `choices`; other outcomes as `Rates` has them, but for `broken`.

    `choices` maps a label of the dataset to all the names a picture may be given, each put into `template`.
    """

    CHOICES: ClassVar[str] = "choices"

    model: str = "openai/clip-vit-base-patch32"
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    template: str = "a photo of a {}"

    def __post_init__(self) -> None:
        if not self.choices or any(len(names) < 2 for names in self.choices.values()):
            raise ValueError("choices must give each label at least two names to tell apart")
        if "{}" not in self.template:
            raise ValueError(f"template must hold {{}} for the name, got {self.template!r}")

    def names(self, samples: Samples) -> tuple[str, ...]:
        return ("target", *asked_for(samples, self.choices))

    def features(self, samples: Samples) -> Tensor:
        """Returns the outcomes target and those of `asked_for`, (N, K)."""
        for label, value in samples.target.items():
            if value not in self.choices.get(label, ()):
                raise ValueError(f"clip_rates: choices: no {label} {value!r}, which the concept's target asks for")
        seen = self.look(samples.images)
        right = [as_asked(seen, samples, labels) for labels in asked_for(samples, self.choices).values()]
        return torch.stack([seen.shows(samples.target).float(), *right], 1)

    def look(self, images: Tensor) -> Recognition:
        """Returns the likeliest name of each label for pictures (N, 3, H, W) or clips (N, F, 3, H, W)."""
        model, tokenizer = load_clip(self.model)
        embedded = embed_frames(model, images).mean(1)
        named = {}
        for label, names in self.choices.items():
            texts = embed_texts(model, tokenizer, [self.template.replace("{}", name) for name in names])
            named[label] = [names[i] for i in (embedded @ texts.T).argmax(1).tolist()]
        return Recognition(named)
