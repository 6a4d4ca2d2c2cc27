"""Prompts that end in a mark, which says how their pictures are sampled: where the run starts, how it goes on."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from stages.control.edits import edit_condition, edit_samples
from stages.control.state import Condition, Sampler
from stages.interventions.base import Intervention

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


class Marked(Intervention):
    """Has `a red circle <start 3>` read as `a red circle`, and sampled in way 3 of those that it has.

    Prompts without a mark are sampled as ever. It takes the sampler's place for marked rows, so other edits of samples,
    such as FlowEdit's, do not see them.
    """

    MARK: ClassVar[str]

    @abstractmethod
    def count(self) -> int:
        """The number of ways."""

    @abstractmethod
    def drawn(self, backbone: Backbone, sampler: Sampler, condition: Condition, way: int, **run: Any) -> Tensor:
        """Pictures (B, 3, H, W) or clips of rows that are sampled in that way; `run` has seeds, steps, guidance."""

    def marked(self, prompt: str, way: int) -> str:
        """The prompt with the mark of a way."""
        return prompt + self._mark(way)

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Has marks left out of what is read, and followed when it is sampled."""
        words = {self._mark(way): "" for way in range(self.count())}
        with edit_condition(backbone, words=words), edit_samples(backbone, partial(self._wrap, backbone)):
            yield

    def _mark(self, way: int) -> str:
        return f" <{self.MARK} {way}>"

    def _way(self, prompt: str) -> int | None:
        found = re.search(rf" <{self.MARK} (\d+)>", prompt)
        return int(found[1]) if found else None

    def _wrap(self, backbone: Backbone, sampler: Sampler) -> Sampler:
        def sample(condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
            ways = [self._way(prompt) for prompt in condition.prompts]
            pictures: dict[int, Tensor] = {}
            for way in dict.fromkeys(ways):
                rows = [i for i, each in enumerate(ways) if each == way]
                run = {"seeds": [seeds[i] for i in rows], "steps": steps, "guidance": guidance}
                part = condition.rows(rows)
                made = sampler(part, **run) if way is None else self.drawn(backbone, sampler, part, way, **run)
                pictures |= dict(zip(rows, made, strict=True))
            return torch.stack([pictures[i] for i in range(len(ways))])

        return sample
