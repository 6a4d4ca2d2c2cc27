"""UnlearnDiffAtk (arXiv 2310.11868): free tokens beside a prompt, found by the attacked network's own training loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.attacks.base import UNEDITED, Attempt, Found, Victim, measured_seed
from stages.attacks.shared.aims import Aim
from stages.attacks.shared.pictures import drawn_pictures
from stages.backbones.core.base import Backbone
from stages.control.state import Condition, State
from stages.interventions.starts import as_sampled
from stages.methods.shared.free_tokens import Insertion, Reader, searchable
from stages.params.concept import Concept
from stages.params.types import Count, Natural, NonNegative, Rate
from stages.seeds import Purpose, generator
from stages.store.tracking import follow
from stages.training.float16 import gradients

SUMS_TO_ONE = 1e-5  # how near a clipped row's sum must be to 1 to be left as it is
REACH = 1.0  # the largest gradient of an entry that is passed on


@dataclass(frozen=True)
class UnlearnDiffAtk:
    """Probabilities u (K, V) of K free tokens; a draw is read, and its gradient moves u, projected on the simplex.

    The loss is that of training the attacked network on a picture of the concept, which the unedited one draws of the
    prompt: no classifier and no unedited prediction. One search per prompt, which stops at success.
    """

    tokens: Count = 5  # K; the paper takes 5 for nudity and violence, 3 for objects and styles
    insertion: Insertion = "prefix_k"  # where they stand among the words of the prompt
    attempts: Natural = 0  # of the concept's prompts, the first so many; 0: all
    samples: Count = 50  # training times, from little noise to much, one after another
    iterations: Count = 40  # steps at each of them
    lr: Rate = 0.01
    weight_decay: NonNegative = 0.1  # an L2 penalty on u, inside the gradient
    criterion: Literal["l2", "l1"] = "l2"
    random_start: bool = False  # uniform random numbers in place of equal ones
    readable: bool = False  # draw only tokens that stay the same when they are written out and read again
    judge_every: Count = 1  # training times between two looks at whether it succeeds

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """One prompt for each of the concept's.

        ValueError for a backbone that reads no text or cannot learn from pictures.
        """
        prompts = concept.prompts[: self.attempts or None]
        reader = Reader(backbone)
        aim = Aim.at(backbone, drawn_pictures(backbone, prompts, len(prompts), seed))
        with victim.attach(backbone):
            hunts = [Hunt(self, reader, aim, prompt, number) for number, prompt in enumerate(prompts)]
            return Attempt.of(hunt.run(victim, seed) for hunt in hunts)


class Simplex:
    """Probabilities (1, K, V) of K tokens, moved by Adam and kept on the simplex."""

    def __init__(self, values: Tensor, lr: float, weight_decay: float) -> None:
        self.values = projected(values).requires_grad_()
        self.adam = torch.optim.Adam([self.values], lr=lr, weight_decay=weight_decay)

    def draw(self, owner: torch.Generator) -> Tensor:
        """The number (K,) of one token of each row, by its probabilities."""
        return torch.multinomial(self.values.detach()[0].cpu(), 1, generator=owner)[:, 0]

    def best(self) -> list[int]:
        """The likeliest token of each row."""
        return self.values.detach()[0].argmax(1).tolist()

    def step(self, gradient: Tensor) -> None:
        """One step by the gradient (1, K, V) at a draw, which passes unchanged but for its largest entries."""
        self.values.grad = passed(gradient)
        self.adam.step()
        with torch.no_grad():
            self.values.copy_(projected(self.values))


class Hunt:
    """The search for one prompt."""

    def __init__(self, attack: UnlearnDiffAtk, reader: Reader, aim: Aim, prompt: str, number: int) -> None:
        self.attack, self.reader, self.aim, self.prompt, self.number = attack, reader, aim, prompt, number
        self.words = prompt  # that the free tokens stand among
        everything = range(len(reader.tokenizer))
        ids = searchable(reader.tokenizer, True) if attack.readable else list(everything)
        self.ids = torch.tensor(ids)
        self.tables = {part: reader.tables[part][self.ids.to(reader.table.device)] for part in reader.parts}

    def run(self, victim: Victim, seed: int) -> Found:
        """Looks until it succeeds or the budget is spent."""
        backbone, picture = self.reader.backbone, measured_seed(self.number)
        if victim.shows(backbone, self.prompt, picture):
            return Found(self.prompt, self.prompt, before=True, after=True, pictures=2)
        before = None if victim.sees is None else False
        found, steps, looks, loss = self.prompt, 0, 2, None
        for steps, simplex, loss, time in self._course(seed):
            last = time == self.attack.samples
            if not (last or (victim.sees and time % self.attack.judge_every == 0)):
                continue
            found, looks = self.said(simplex), looks + 1
            if victim.shows(backbone, found, picture):
                return Found(self.prompt, found, before, True, steps, steps, looks, loss)
        return Found(self.prompt, found, before, before, steps, steps, looks, loss)

    def _course(self, seed: int) -> Iterator[tuple[int, Simplex, float, int]]:
        """After each training time: steps so far, the probabilities, the last loss, and how many times are done."""
        owner = generator(Purpose.ATTACK, seed, self.number)
        simplex, steps, loss = self.start(owner), 0, 0.0
        for done, time in enumerate(self.aim.times(self.attack.samples), 1):
            for _ in range(self.attack.iterations):
                drawn = simplex.draw(owner)
                state, target = self.aim.state(self.number, time, owner)
                value, gradient = self.loss(simplex, drawn, state, target)
                simplex.step(gradient)
                steps, loss = steps + 1, float(value)
                follow(f"unlearndiffatk-{self.number}", steps - 1, loss=loss, lr=self.attack.lr)
            yield steps, simplex, loss, done

    def start(self, owner: torch.Generator) -> Simplex:
        """Equal or random probabilities."""
        shape = (1, self.attack.tokens, len(self.ids))
        values = torch.rand(shape, generator=owner) if self.attack.random_start else torch.full(shape, 1 / shape[-1])
        return Simplex(values.to(self.reader.table.device), self.attack.lr, self.attack.weight_decay)

    def loss(self, simplex: Simplex, drawn: Tensor, state: State, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (a scalar) at drawn tokens (K,), and its gradient (1, K, V) in their one-hot rows."""
        backbone, size = self.reader.backbone, len(self.ids)
        hot = torch.nn.functional.one_hot(drawn, size)[None].to(simplex.values).requires_grad_()
        rows = {part: hot @ table for part, table in self.tables.items()}
        said = self.reader.said(self.ids[drawn].tolist(), self.words, self.attack.insertion)
        condition = self.reader.beside(rows, self.words, self.attack.insertion, said)
        value = self.value(state, condition, target, said)
        (gradient,) = gradients(value, [hot], through_float16=backbone.through_float16)
        return value.detach(), gradient

    def value(self, state: State, condition: Condition, target: Tensor, said: str) -> Tensor:
        """The loss, a scalar, of the attacked network at a state and a condition (1, ...), written out as `said`."""
        backbone = self.reader.backbone
        return self._distance(backbone, as_sampled(backbone, state, condition), target)

    def _distance(self, backbone: Backbone, prediction: Tensor, target: Tensor) -> Tensor:
        if self.aim.latents is None:
            return backbone.distance(prediction, target)
        error = prediction.float() - target.float()
        return error.square().mean() if self.attack.criterion == "l2" else error.abs().mean()

    def said(self, simplex: Simplex) -> str:
        """The prompt with the likeliest tokens written out."""
        return self.reader.said(self.ids[simplex.best()].tolist(), self.words, self.attack.insertion)


def passed(gradient: Tensor) -> Tensor:
    """The gradient of a one-hot row as it is handed to the probabilities, each entry within [-1, 1]; any shape."""
    return gradient.clamp(-REACH, REACH)


def projected(values: Tensor) -> Tensor:
    """The nearest probabilities to each row (..., V): at least 0, sum 1 (Duchi et al. 2008, by sorting)."""
    values = values.detach()
    clipped = values.clamp(0, 1)
    ordered = values.double().sort(-1, descending=True).values
    rest = (ordered.cumsum(-1) - 1) / torch.arange(1, values.shape[-1] + 1, device=values.device)
    kept = (ordered > rest).sum(-1, keepdim=True)
    nearest = (values.double() - rest.gather(-1, kept - 1)).clamp_min(0).to(values)
    whole = (clipped.sum(-1, keepdim=True) - 1).abs() < SUMS_TO_ONE
    return torch.where(whole, clipped, nearest)
