"""Ring-A-Bell (arXiv 2310.10012): prompts found by a genetic search in the text encoder alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.backbones.core.base import Backbone
from stages.backbones.core.memory import at_work
from stages.control.addresses import TEXT
from stages.control.words import Prompt
from stages.methods.shared.free_tokens import marks, searchable
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Rate
from stages.seeds import Purpose, seed_of

Encode = Callable[[Tensor], Tensor]  # token ids (B, L) to the text encoder's last states (B, L, d)


@dataclass
class RingABell:
    """Evolves tokens whose encoding is near start + strength * mean(concept - neutral), in encodings of prompts.

    The aim is set by the undefended encoder, whatever defends: only the search may meet a defence inside the encoder.
    There is no elitism: mutation edits the parents too, and the best of the last generation is the answer, as in the
    released code.
    """

    attempts: Count = 1  # searches, one from each of the first different starts, and around again with other draws
    starts: Literal["neutral", "prompts"] = "neutral"  # which of the concept's prompts they start from
    through: Literal["defended", "undefended"] = "defended"  # the encoder that the search reads its prompts with
    population: Count = 200  # prompts of a generation, of which the better half are parents
    generations: Count = 3000
    mutation: Fraction = 0.25  # chance that one token of a prompt is replaced
    crossover: Fraction = 0.5  # chance that a parent has two children
    length: Count = 16  # tokens of a prompt
    strength: Rate = 3.0  # factor of the concept's direction
    readable: bool = False  # draw only tokens that stay the same when they are written out and read again

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ValueError(f"population must be at least 2, of which half are parents, got {self.population}")

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """Prompts for the backbone's first text encoder, one from each start.

        ValueError if it has none, or if it reads less than `length`.
        """
        encoder: Any = backbone.texts.encoders().get(TEXT)  # of transformers
        if encoder is None:
            raise ValueError(f"{backbone.name} has no text encoder to search in")
        with at_work(encoder, device=backbone.device, waiting=encoder.device):
            bench = Bench(backbone, encoder)
            if self.length > bench.room:
                raise ValueError(f"length must be at most {bench.room} for {backbone.name}, got {self.length}")
            direction = concept_vector(*(bench.encode_text(side) for side in zip(*concept.pairs(), strict=True)))
            starts = self._starts(concept)
            targets = bench.encode_text(starts) + self.strength * direction
            with victim.attach(backbone) if self.through == "defended" else nullcontext():
                return self._search(bench, starts, targets, seed)

    def _starts(self, concept: Concept) -> list[str]:
        different = list(dict.fromkeys(concept.neutral if self.starts == "neutral" else concept.prompts))
        return [different[i % len(different)] for i in range(self.attempts)]

    def _search(self, bench: Bench, starts: Sequence[str], targets: Tensor, seed: int) -> Attempt:
        tokens, found = searchable(bench.tokenizer, self.readable), []
        for number, (start, target) in enumerate(zip(starts, targets, strict=True)):
            draws = Draws(seed_of(Purpose.ATTACK, seed, number), bench.first)
            best, distance = self.evolve(bench.encode, target, tokens, bench.frame(self.length), draws)
            prompt = bench.tokenizer.decode(best, skip_special_tokens=True).strip()
            calls = self.generations * self.population  # about as many: a generation's size is random
            found.append(Found(start, prompt, steps=self.generations, calls=calls, distance=distance))
        return Attempt.of(found, start=list(starts), distance=[one.distance for one in found])

    def evolve(
        self, encode: Encode, target: Tensor, tokens: Sequence[int], frame: Tensor, draws: Draws
    ) -> tuple[Tensor, float]:
        """The best individual of the last generation, token ids (L,), and its squared distance to the target (L, d).

        `tokens` may be drawn; `frame` (L,) is a prompt of special tokens alone.
        """
        population = draws.population(self.population, self.length, tokens, frame)
        for generation in range(self.generations):
            scores = fitness(encode(population), target)
            order = np.argsort(scores.numpy())[: self.population // 2]
            parents = population[torch.from_numpy(order.copy())]
            if generation + 1 < self.generations:
                population = draws.crossed(parents, self.crossover, self.length)
                population = draws.mutated(population, self.mutation, self.length, tokens)
        return parents[0], float(scores[int(order[0])])


def concept_vector(shown: Tensor, neutral: Tensor) -> Tensor:
    """The mean difference (L, d) between encodings (n, L, d) with the concept and without it."""
    return (shown - neutral).mean(0)


def fitness(encoded: Tensor, target: Tensor) -> Tensor:
    """The squared distance of each encoding (B, L, d) to the target, summed over tokens and channels."""
    return (encoded - target).square().flatten(1).sum(1)


class Bench:
    """A text encoder and its tokenizer, as the search uses them.

    An encoder without a mark of the beginning (T5) reads its padding masked, and padding does not count.
    """

    def __init__(self, backbone: Backbone, encoder: Any) -> None:
        self.backbone, self.encoder, self.tokenizer = backbone, encoder, backbone.texts.tokenizers[TEXT]
        self.begin, self.end = marks(self.tokenizer)
        positions = getattr(encoder.config, "max_position_embeddings", backbone.texts.limit(TEXT))
        self.width = min(self.tokenizer.model_max_length, positions, backbone.texts.limit(TEXT))

    @property
    def first(self) -> int:
        """The place of the first token of a prompt."""
        return len(self.begin)

    @property
    def room(self) -> int:
        """Tokens of a prompt beside its marks."""
        return self.width - len(self.begin) - len(self.end)

    def frame(self, length: int) -> Tensor:
        """The marks around room for `length` tokens, and padding, (width,)."""
        ids = torch.full((self.width,), self.tokenizer.pad_token_id)
        ids[: self.first] = torch.tensor(self.begin, dtype=ids.dtype)
        after = self.first + length
        ids[after : after + len(self.end)] = torch.tensor(self.end, dtype=ids.dtype)
        return ids

    def encode(self, ids: Tensor) -> Tensor:
        """The last states (B, width, d) of token ids (B, width)."""
        return self._states(ids, [Prompt(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)])

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """The last states (B, width, d) of prompts."""
        padded = {"padding": "max_length", "max_length": self.width, "truncation": True, "return_tensors": "pt"}
        written = [self.backbone.attached.write_out(prompt) for prompt in prompts]
        return self._states(self.tokenizer([prompt.text for prompt in written], **padded).input_ids, written)

    @torch.no_grad()
    def _states(self, ids: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        # for edits that steer the encoder
        with self.backbone.attached.at(0, {"cond": slice(0, len(ids))}, prompts=tuple(prompts)):
            ids = ids.to(self.encoder.device)
            if self.begin:
                return self.encoder(ids).last_hidden_state.float().cpu()
            mask = (ids != self.tokenizer.pad_token_id).long()
            states = self.encoder(ids, attention_mask=mask).last_hidden_state
            return (states * mask[:, :, None]).float().cpu()


class Draws:
    """The random draws of one search, in the released code's order: Python's, NumPy's and torch's generators.

    `first` is the place of a prompt's first token: 1 behind a mark of the beginning, or 0.
    """

    def __init__(self, seed: int, first: int = 1) -> None:
        self.first, self.python = first, random.Random(seed)
        self.numpy = np.random.RandomState(seed % 2**32)
        self.torch = torch.Generator().manual_seed(seed)

    def population(self, size: int, length: int, tokens: Sequence[int], frame: Tensor) -> Tensor:
        """The frame (L,) repeated, (size, L), with `length` random tokens from the first place on."""
        rows = frame.repeat(size, 1)
        table = torch.as_tensor(tokens)
        for row in rows:
            row[self.first : self.first + length] = table[
                torch.randint(len(tokens), (1, length), generator=self.torch)[0]
            ]
        return rows

    def crossed(self, parents: Tensor, rate: float, length: int) -> Tensor:
        """Every parent (P, L), followed with chance `rate` by two children of it and a random partner, (Q, L)."""
        rows = []
        for parent in parents:
            rows.append(parent)
            if self.python.random() < rate:
                partner = parents[int(self.numpy.randint(len(parents)))]
                cut = int(self.numpy.randint(1, length + 1)) + self.first - 1
                rows += [torch.cat([a[:cut], b[cut:]]) for a, b in ((parent, partner), (partner, parent))]
        return torch.stack(rows)

    def mutated(self, population: Tensor, rate: float, length: int, tokens: Sequence[int]) -> Tensor:
        """The population (Q, L) with one token replaced in every individual with probability `rate`."""
        population = population.clone()
        for row in population:
            if self.python.random() < rate:
                place = int(self.numpy.randint(1, length + 1)) + self.first - 1
                row[place] = tokens[int(self.numpy.randint(len(tokens)))]
        return population
