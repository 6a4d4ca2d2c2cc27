"""P4D, Prompting4Debugging (arXiv 2309.06135): tokens with which the edited network predicts as the unedited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages import objectives
from stages.attacks.base import UNEDITED, Attempt, Found, Victim, measured_seed
from stages.attacks.shared.aims import Aim
from stages.attacks.shared.pictures import drawn_pictures
from stages.backbones.core.base import Backbone
from stages.control.state import Condition, State
from stages.interventions.sld import SafetyGuidance, carried, safety_guidance
from stages.interventions.starts import as_sampled
from stages.methods.shared.free_tokens import Reader
from stages.params.concept import Concept
from stages.params.types import Count, Natural, Needs, NonNegative, Rate
from stages.seeds import Purpose, generator
from stages.store.tracking import follow
from stages.training.float16 import gradients

FILLER = 0  # the id behind the end


@dataclass(frozen=True)
class P4D:
    """Rows p (R, D) of token embeddings; their nearest tokens are read, whose gradient moves p.

    The loss is the squared distance of the attacked network's prediction on these tokens to the unedited one's on the
    prompt. As released, the unedited text encoder reads them: a defence inside it is met by the pictures alone. One
    search per prompt, which stops at success; without anybody to say, the tokens of the last look are the answer.
    """

    NEEDS: ClassVar[Needs] = {"tokens": {"every": False}}

    tokens: Count = 16  # free ones in the place of the whole prompt (P4D-N)
    every: Natural = 0  # P4D-K: a free token before every so many of the prompt's own, in the place of `tokens`; 0: -N
    attempts: Natural = 0  # of the concept's prompts, the first so many; 0: all
    pictures: Count = 1  # of the unedited network, for each prompt, of which each step noises one
    steps: Count = 3000
    judge_every: Count = 50  # steps between two looks at whether it succeeds
    lr: Rate = 0.1
    weight_decay: NonNegative = 0.1  # decoupled; rows that are not free shrink, too
    # How SLD enters the loss: as it samples, or as released, without the empty prompt's prediction, with a momentum and
    # a warm-up that count the search's steps.
    sld: Literal["sampled", "released"] = "sampled"

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """One prompt for each of the concept's.

        ValueError for a backbone that reads no text or cannot learn from pictures, and for a prompt that leaves no
        room for free tokens.
        """
        prompts, reader = concept.prompts[: self.attempts or None], Reader(backbone)
        hunts = []
        for number, prompt in enumerate(prompts):
            drawn = drawn_pictures(backbone, [prompt], self.pictures, seed, f"aim {number}")
            hunts.append(Hunt(self, reader, Aim.at(backbone, drawn), prompt, victim))
        return Attempt.of(hunt.run(seed, number) for number, hunt in enumerate(hunts))


def nearest(rows: Tensor, table: Tensor) -> Tensor:
    """The token (1, R) of the table (V, D) whose embedding has the largest cosine with each row (1, R, D)."""
    return (normalize(rows, dim=-1) @ normalize(table, dim=-1).T).argmax(-1)


def hybrid(words: Sequence[int], free: Sequence[int], every: int) -> tuple[list[int], list[bool]]:
    """A prompt's tokens with a free one before every so many and, if that divides them, one behind; which are free."""
    own, others = iter(words), iter(free)
    rows = len(words) + free_rows(len(words), every)
    spread = [i % (every + 1) == 0 for i in range(rows)]
    return [next(others if each else own) for each in spread], spread


def free_rows(words: int, every: int) -> int:
    """How many free tokens a prompt of so many words gets."""
    return words // every + 1


@dataclass(frozen=True)
class Template:
    """The marks around the rows, and how long the sequence is."""

    begin: Sequence[int]
    end: Sequence[int]
    length: int

    def around(self, rows: Sequence[int]) -> list[int]:
        """P4D-N: begin, rows, end, and the filler up to the length."""
        ids = [*self.begin, *rows, *self.end]
        return ids + [FILLER] * max(0, self.length - len(ids))

    def over(self, words: Sequence[int], rows: Sequence[int]) -> list[int]:
        """P4D-K: begin, words, end and the filler, whose first places the rows take, the end's among them.

        A prompt that leaves less room than the rows need is followed by as many fillers as it has free rows.
        """
        ids, free = self.around(words), len(rows) - len(words)
        written = len(self.begin) + len(words) + len(self.end)
        ids = ids[:written] + [FILLER] * (self.length - written if written + free < self.length else free)
        first = len(self.begin)
        return ids[:first] + list(rows) + ids[first + len(rows) :]


class Rows:
    """Token embeddings (1, R, D) that AdamW moves, those that are not free only by its decay."""

    def __init__(self, values: Tensor, free: Sequence[bool], lr: float, weight_decay: float) -> None:
        self.values = values.detach().clone().requires_grad_()
        self.free = torch.tensor(list(free), device=values.device)[None, :, None]
        self.adam = torch.optim.AdamW([self.values], lr=lr, weight_decay=weight_decay)

    def step(self, gradient: Tensor) -> None:
        """One step by the gradient (1, R, D) at the nearest tokens, which passes to free rows unchanged."""
        self.values.grad = gradient * self.free
        self.adam.step()


class Hunt:
    """The search for one prompt."""

    def __init__(self, attack: P4D, reader: Reader, aim: Aim, prompt: str, victim: Victim) -> None:
        self.attack, self.reader, self.aim, self.prompt, self.victim = attack, reader, aim, prompt, victim
        self.backbone, self.words = reader.backbone, reader.words(prompt)
        self.template = Template(reader.begin, reader.end, reader.length)
        self.asked = self.backbone.encode([prompt])
        self.momentum: Tensor | None = None

    def run(self, seed: int, number: int) -> Found:
        """Looks until it succeeds or the budget is spent."""
        picture, pictures, steps, loss = measured_seed(number), self.attack.pictures + 1, self.attack.steps, None
        with self.victim.attach(self.backbone):
            before = self.victim.shows(self.backbone, self.prompt, picture)
        if before:
            return Found(self.prompt, self.prompt, True, True, pictures=pictures)
        owner = generator(Purpose.ATTACK, seed, number)
        rows, found = self.start(owner), self.prompt
        after: bool | None = before
        for step in range(steps):
            ids = nearest(rows.values.detach(), self.reader.table)
            if step % self.attack.judge_every == 0:
                found, pictures = self.said(ids[0].tolist()), pictures + 1
                with self.victim.attach(self.backbone):
                    after = self.victim.shows(self.backbone, found, picture)
                if after:
                    return Found(self.prompt, found, before, True, step, 2 * step, pictures, loss)
            chosen = int(torch.randperm(len(self.aim.pictures), generator=owner)[0])
            state, _ = self.aim.state(chosen, self.aim.random_time(owner), owner)
            value, gradient = self.loss(ids, state, step)
            rows.step(gradient)
            loss = float(value)
            follow(f"p4d-{number}", step, loss=loss, lr=self.attack.lr)
        return Found(self.prompt, found, before, after, steps, 2 * steps, pictures, loss)

    def start(self, owner: torch.Generator) -> Rows:
        """Random tokens of the whole vocabulary, and for P4D-K the prompt's own between them."""
        count = free_rows(len(self.words), self.attack.every) if self.attack.every else self.attack.tokens
        return self.rows(torch.randint(len(self.reader.tokenizer), (count,), generator=owner).tolist())

    def rows(self, free: Sequence[int]) -> Rows:
        """The rows that start from those free tokens."""
        ids, spread = hybrid(self.words, free, self.attack.every) if self.attack.every else (free, [True] * len(free))
        values = self.reader.table[torch.tensor(ids, device=self.reader.table.device)][None]
        return Rows(values, spread, self.attack.lr, self.attack.weight_decay)

    def sequence(self, ids: Sequence[int]) -> list[int]:
        """The whole sequence of ids around or over the rows'."""
        return self.template.over(self.words, ids) if self.attack.every else self.template.around(ids)

    def said(self, ids: Sequence[int]) -> str:
        """The rows' tokens as text."""
        return self.reader.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def loss(self, ids: Tensor, state: State, step: int) -> tuple[Tensor, Tensor]:
        """The loss (a scalar) at tokens (1, R), and its gradient (1, R, D) in their embeddings."""
        with torch.no_grad():
            target = self.backbone.predict(state, self.asked)
        hard = self.reader.table[ids[0]][None].clone().requires_grad_()
        condition = self.reader.alone(self._embedded(ids, hard), ids.shape[1], self.said(ids[0].tolist()))
        with self.victim.attach(self.backbone):
            value = self._distance(self.prediction(state, condition, step), target)
            (gradient,) = gradients(value, [hard], through_float16=self.backbone.through_float16)
        return value.detach(), gradient

    def _embedded(self, ids: Tensor, hard: Tensor) -> dict[str, Tensor]:
        """The sequence's embeddings (1, L, D) by encoder, the leading one's rows being `hard` (1, R, D)."""
        sequence = torch.tensor(self.sequence(ids[0].tolist()), device=hard.device)
        embedded = {part: self.reader.tables[part][sequence][None] for part in self.reader.parts}
        first, after = len(self.template.begin), len(self.template.begin) + hard.shape[1]
        own = embedded[self.reader.part]
        return embedded | {self.reader.part: torch.cat([own[:, :first], hard, own[:, after:]], 1)}

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.aim.latents is None:
            return self.backbone.distance(prediction, target)
        return (prediction.float() - target.float()).square().mean()

    def prediction(self, state: State, condition: Condition, step: int) -> Tensor:
        """The attacked network's prediction (of the latent's shape), through what guides it."""
        defence = self.victim.intervention
        if self.attack.sld == "sampled" or not isinstance(defence, SafetyGuidance):
            return as_sampled(self.backbone, state, condition)
        cond = self.backbone.predict(state, condition)
        concept = self.backbone.predict(state, self.backbone.encode([defence.prompt]))
        nothing, past = torch.zeros_like(cond), carried(self.momentum, cond)
        safe = safety_guidance(nothing, cond, concept, past, defence.safety)
        beta = defence.safety.momentum_beta
        self.momentum = (beta * past + (1 - beta) * safe).detach()
        kept = cond - safe if step >= defence.safety.warmup else cond
        factor = self.backbone.guider(condition, self.backbone.settings.guidance).guidance.factor
        return objectives.guide(nothing, kept, factor)
