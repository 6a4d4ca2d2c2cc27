"""The registry of attached edits: the five edits write it, every run reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from stages.control.sites import Moment, Site
from stages.control.state import Condition, Sampler
from stages.control.words import Prompt, written_out
from stages.objectives.sampling import guide

Predictions = Mapping[str, Tensor]  # role -> prediction (B, ...); guidance is linear in them
GuidanceEdit = Callable[[Predictions, Moment], Predictions]
Asked = str | Callable[[Condition], Condition]  # a prompt, or a condition made from a run's own
Encode = Callable[[Sequence[str]], Condition]
Rewrite = Callable[[str], str]


class Attached:
    """The edits that are attached now, in order of application, and the moment of the run that they are told."""

    def __init__(self) -> None:
        self.rewrites: list[Rewrite] = []  # of prompts, before anything else reads them
        self.words: list[Mapping[str, str]] = []  # aliases and their replacements before tokenization
        self.condition_edits: list[Callable[[Condition], Condition]] = []
        self.guidance_edits: list[tuple[GuidanceEdit, Mapping[str, Asked]]] = []
        self.sample_edits: list[Callable[[Sampler], Sampler]] = []
        self.text_swaps: list[object] = []  # edits of text encoders; no encoding is reused while there are any
        self.originals: dict[str, Tensor] = {}  # the network's own values of parameters that are swapped now
        self._moment = Moment(0, None, {})

    def rewrite(self, prompt: str) -> str:
        """The prompt after every rewrite."""
        for rewrite in self.rewrites:
            prompt = rewrite(prompt)
        return prompt

    def write_out(self, prompt: str) -> Prompt:
        """The prompt as its tokenizer gets it: aliases replaced by their words."""
        return written_out(prompt, {alias: text for words in self.words for alias, text in words.items()})

    def edit_condition(self, condition: Condition) -> Condition:
        """The condition after every edit of conditions."""
        for edit in self.condition_edits:
            condition = edit(condition)
        return condition

    def wrap_sampler(self, sampler: Sampler) -> Sampler:
        """The sampler inside every edit of samples, the last attached outermost."""
        for wrap in self.sample_edits:
            sampler = wrap(sampler)
        return sampler

    def extra_conditions(self, condition: Condition, encode: Encode) -> dict[str, Condition]:
        """The conditions that edits of guidance ask for beside the run's own `condition`, by role."""
        asked = {role: extra for _, extras in self.guidance_edits for role, extra in extras.items()}
        return {
            role: extra(condition) if callable(extra) else encode([extra]).repeat(len(condition))
            for role, extra in asked.items()
        }

    def combine(self, predictions: Predictions, guidance: float) -> Tensor:
        """Predictions (B, ...) of all roles, through the guidance edits, as uncond + g (cond - uncond), (B, ...).

        Without `uncond` the conditional prediction alone.
        """
        for edit, _ in self.guidance_edits:
            predictions = edit(predictions, self.moment(None))
        if "uncond" not in predictions:
            return predictions["cond"]
        return guide(predictions["uncond"], predictions["cond"], guidance)

    def moment(self, site: Site | None) -> Moment:
        """The step, rows and roles of the call that is computed now, for an edit at `site`."""
        return replace(self._moment, site=site)

    @contextmanager
    def at(
        self,
        step: int,
        roles: Mapping[str, slice],
        *,
        lengths: tuple[int, ...] = (),
        prompts: tuple[Prompt, ...] = (),
        condition: Condition | None = None,
    ) -> Iterator[None]:
        """Says which step is computed and which rows play which role while open; see `Moment`."""
        before, self._moment = self._moment, Moment(step, None, roles, lengths, prompts, condition)
        try:
            yield
        finally:
            self._moment = before

    def move_to(self, step: int, roles: Mapping[str, slice]) -> None:
        """Goes on to another step inside `at`, for samplers that call back at each of their own."""
        self._moment = replace(self._moment, step=step, roles=roles)
