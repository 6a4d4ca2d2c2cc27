"""How often a judge sees the concept, sees what was asked for, or sees nothing clear."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from stages.metrics.base import Column
from stages.metrics.clips import share_columns, verdict_names, verdicts
from stages.metrics.judged import JUDGE, WORLDS, load_judge
from stages.metrics.judging import Judging
from stages.metrics.members import each_member, members_of, shown
from stages.metrics.samples import Samples, finite
from stages.params.concept import values
from stages.params.relations import RELATION, RELATIONS, Relation

OF_WORLDS = {  # the labels that the judge of each world sees
    "shapes": ("colour", "shape", "direction", "pair"),
    "scenes": (
        *("colour", "object", "texture", "style", "figure", "place", "background", "other_colour", "other_object"),
        *("pair", "direction"),
    ),
}
LABELS = tuple(dict.fromkeys(label for labels in OF_WORLDS.values() for label in labels))
HEADS = {
    "direction": "motion",
    "class": "things",
    "pair": "pairs",
    "other_colour": "second colour",
    "other_object": "second object",
}  # how a column's head calls a label


APART = {"seen": "in the loss", "near": "near, held out", "far": "far, held out"}


class Names(Protocol):
    """An answer with a name for each sample."""

    def named(self, label: str) -> Sequence[str]: ...


@dataclass(frozen=True)
class Outcomes(Judging):
    """A judge whose features are the outcomes themselves.

    The verdicts on a clip are those of `stages.metrics.clips`.
    """

    @property
    def seen(self) -> str:
        return "target"

    @abstractmethod
    def names(self, samples: Samples) -> tuple[str, ...]:
        """The names of the K columns of `features`: 1, 0 or a share, or NaN if a sample was not asked for it."""

    def verdicts(self, features: Tensor, samples: Samples) -> dict[str, Tensor]:
        return dict(zip(self.names(samples), features.unbind(1), strict=True))

    def columns(self) -> tuple[Column, ...]:
        return ()


@dataclass(frozen=True)
class Rates(Outcomes):
    """Rates by the judge of a small world.

    target: the concept is seen, in any frame of a clip; of several, the one that the prompt names, and each of them by
    its own name. broken: nothing clear. coherent: neither of the two. colour, shape, style and the like: as the prompt
    asks. other: all labels right but the concept's, if every prompt asks for the concept. joint: all labels right, for
    other prompts, and joint_seen, joint_near and joint_far of retained ones that are (stages.params.relations). Labels
    of a clip but the target are of the mean of its frames.
    """

    WORLDS: ClassVar[tuple[str, ...]] = WORLDS
    LABELS: ClassVar[Mapping[str, tuple[str, ...]]] = OF_WORLDS

    judge: str = JUDGE  # folder of the judge; {world}: of the backbone's world

    def names(self, samples: Samples) -> tuple[str, ...]:
        verdict = (*verdict_names("target", samples), "broken", "coherent")
        return (*verdict, *asked_for(samples), *apart(samples), *members_of(samples))

    def features(self, samples: Samples) -> Tensor:
        """Outcomes: target, broken, coherent, those of `asked_for` and `apart`, (N, K); a clip has shares, too."""
        asked, members, relations = asked_for(samples), members_of(samples), tuple(apart(samples).values())
        return torch.cat([self._judged(part, asked, relations, members) for part in samples.parts()])

    def columns(self) -> tuple[Column, ...]:
        return (
            *share_columns("target"),
            Column("concept", "other_rate", "Rest of the prompt right", "high"),
            Column("concept", "coherent_rate", "Clear picture without the concept", "high", aim="erase"),
            Column("synonym", "target_rate", "Seen by another word", "low", aim="erase"),
            Column("alone", "target_rate", "Seen if named alone", "low", aim="erase"),
            Column("implied", "target_rate", "Seen if implied", "low", aim="erase"),
            Column("neutral", "joint_rate", "Neutral twins right", "high"),
            Column("neutral", "broken_rate", "Neutral twins unclear", "low"),
            *retained_columns(LABELS),
        )

    def _judged(
        self,
        samples: Samples,
        asked: Mapping[str, Sequence[str]],
        relations: Sequence[Relation],
        members: Mapping[str, tuple[str, str]],
    ) -> Tensor:
        verdict = load_judge(self.judge).look(samples.images)
        finite(verdict.probabilities(), samples, "the judge's answers")
        right = {name: as_asked(verdict, samples, labels) for name, labels in asked.items()}
        kept = [of_relation(right["joint"], samples, relation) for relation in relations]
        target, broken = verdicts("target", shown(verdict, samples), samples), verdict.broken()
        coherent = (target["target"] == 0) & ~broken
        each = each_member(target["target"], samples, members)
        return torch.stack([*target.values(), broken.float(), coherent.float(), *right.values(), *kept, *each], 1)


def retained_columns(labels: Iterable[str]) -> tuple[Column, ...]:
    """A column of the retained prompts for each label, and one of those that are seen, near and far."""
    heads = {label: f"Retained {HEADS.get(label, label)}" for label in labels}
    heads |= {f"joint_{relation}": f"Retained, {APART[relation]}" for relation in RELATIONS}
    return tuple(Column("retain", f"{name}_rate", head, "high") for name, head in heads.items())


def apart(samples: Samples, known: Iterable[str] = LABELS) -> dict[str, Relation]:
    """The outcomes of retained samples that are seen, near or far, by name: those that ask for a label."""
    if "joint" not in asked_for(samples, known):
        return {}
    there = {row.get(RELATION) for row in samples.rows if any(row.get(label) for label in known)}
    return {f"joint_{relation}": relation for relation in RELATIONS if relation in there}


def of_relation(right: Tensor, samples: Samples, relation: Relation) -> Tensor:
    """Outcomes (N,) of the samples of one relation, NaN for the others."""
    here = torch.tensor([row.get(RELATION) == relation for row in samples.rows], device=right.device)
    return torch.where(here, right, torch.nan)


def asked_for(samples: Samples, known: Iterable[str] = LABELS) -> dict[str, tuple[str, ...]]:
    """The labels that must be right for each outcome, of those that are `known`."""
    labels = tuple(label for label in known if any(row.get(label) for row in samples.rows))
    if all(row.get(label) in values(wanted) for row in samples.rows for label, wanted in samples.target.items()):
        rest = tuple(label for label in labels if label not in samples.target)
        return {label: (label,) for label in rest} | ({"other": rest} if rest else {})
    return {label: (label,) for label in labels} | ({"joint": labels} if labels else {})


def as_asked(verdict: Names, samples: Samples, labels: Sequence[str]) -> Tensor:
    """1 for each sample that has all of these labels right, of those that its row asks for; NaN if none, (N,)."""
    names = {label: verdict.named(label) for label in labels}
    right = torch.full((len(samples.rows),), torch.nan)
    for i, row in enumerate(samples.rows):
        asked = [label for label in labels if row.get(label)]
        if asked:
            right[i] = float(all(names[label][i] == row[label] for label in asked))
    return right
