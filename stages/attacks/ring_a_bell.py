"""Ring-A-Bell (arXiv 2310.10012): prompts found by a genetic search in the text encoder alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.attacks.base import Attempt
from stages.backbones.core.base import Backbone
from stages.backbones.core.memory import at_work
from stages.control.addresses import TEXT
from stages.control.words import Prompt
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Rate
from stages.seeds import Purpose, seed_of

Encode = Callable[[Tensor], Tensor]  # token ids (B, L) to the text encoder's last states (B, L, d)


@dataclass
class RingABell:
    """Evolves tokens whose encoding is near neutral + strength * mean(concept - neutral), in encodings of prompts.

    There is no elitism: mutation edits the parents too, and the best of the last generation is the answer, as in the
    released code.
    """

    attempts: Count = 1  # searches, one from each of the first different neutral prompts
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

    def search(self, backbone: Backbone, concept: Concept, *, seed: int) -> Attempt:
        """Prompts for the backbone's first text encoder.

        ValueError if it has none, if it reads less than `length`, or for a tokenizer without a mark of the beginning.
        """
        encoder = backbone.texts.encoders().get(TEXT)
        if encoder is None:
            raise ValueError(f"{backbone.name} has no text encoder to search in")
        with at_work(encoder, device=backbone.device, waiting=encoder.device):
            return self._search(backbone, encoder, concept, seed)

    def _search(self, backbone: Backbone, encoder: nn.Module, concept: Concept, seed: int) -> Attempt:
        tokenizer = backbone.texts.tokenizers[TEXT]
        width = min(tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", 512))
        if self.length > width - 2:
            raise ValueError(f"length must be at most {width - 2} for {backbone.name}, got {self.length}")

        @torch.no_grad()
        def states(ids: Tensor, prompts: Sequence[Prompt]) -> Tensor:
            # for edits that steer the encoder
            with backbone.attached.at(0, {"cond": slice(0, len(ids))}, prompts=tuple(prompts)):
                return encoder(ids.to(encoder.device)).last_hidden_state.float().cpu()

        def encode(ids: Tensor) -> Tensor:
            return states(ids, [Prompt(text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)])

        def encode_text(prompts: Sequence[str]) -> Tensor:
            padded = {"padding": "max_length", "max_length": width, "truncation": True, "return_tensors": "pt"}
            written = [backbone.attached.write_out(prompt) for prompt in prompts]
            return states(tokenizer([prompt.text for prompt in written], **padded).input_ids, written)

        shown, neutral = (encode_text(side) for side in zip(*concept.pairs(), strict=True))
        direction = concept_vector(shown, neutral)
        starts = list(dict.fromkeys(concept.neutral))[: self.attempts]
        tokens = _tokens(tokenizer, self.readable)
        prompts, scores = [], []
        for number, target in enumerate(encode_text(starts) + self.strength * direction):
            best, score = self.evolve(
                encode,
                target,
                tokens,
                _frame(tokenizer, width, self.length),
                Draws(seed_of(Purpose.ATTACK, seed, number)),
            )
            prompts.append(tokenizer.decode(best, skip_special_tokens=True).strip())
            scores.append(score)
        return Attempt(tuple(prompts), notes={"start": starts, "distance": scores})

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


class Draws:
    """The random draws of one search, in the released code's order: Python's, NumPy's and torch's generators."""

    def __init__(self, seed: int) -> None:
        self.python = random.Random(seed)
        self.numpy = np.random.RandomState(seed % 2**32)
        self.torch = torch.Generator().manual_seed(seed)

    def population(self, size: int, length: int, tokens: Sequence[int], frame: Tensor) -> Tensor:
        """The frame (L,) repeated, (size, L), with `length` random tokens from position 1 on."""
        rows = frame.repeat(size, 1)
        table = torch.as_tensor(tokens)
        for row in rows:
            row[1 : length + 1] = table[torch.randint(len(tokens), (1, length), generator=self.torch)[0]]
        return rows

    def crossed(self, parents: Tensor, rate: float, length: int) -> Tensor:
        """Every parent (P, L), followed with chance `rate` by two children of it and a random partner, (Q, L)."""
        rows = []
        for parent in parents:
            rows.append(parent)
            if self.python.random() < rate:
                partner = parents[int(self.numpy.randint(len(parents)))]
                cut = int(self.numpy.randint(1, length + 1))
                rows += [torch.cat([a[:cut], b[cut:]]) for a, b in ((parent, partner), (partner, parent))]
        return torch.stack(rows)

    def mutated(self, population: Tensor, rate: float, length: int, tokens: Sequence[int]) -> Tensor:
        """The population (Q, L) with one token replaced in every individual with probability `rate`."""
        population = population.clone()
        for row in population:
            if self.python.random() < rate:
                place = int(self.numpy.randint(1, length + 1))
                row[place] = tokens[int(self.numpy.randint(len(tokens)))]
        return population


def _frame(tokenizer: Any, width: int, length: int) -> Tensor:
    """Begin, room for `length` tokens, end, padding, (width,); ValueError for a tokenizer that begins with a word."""
    begin = tokenizer("").input_ids[0]
    if begin != tokenizer.bos_token_id:
        raise ValueError("the tokenizer puts no mark before the first word")
    ids = torch.full((width,), tokenizer.pad_token_id)
    ids[0], ids[length + 1] = begin, tokenizer.eos_token_id
    return ids


def _tokens(tokenizer: Any, readable: bool) -> Sequence[int]:
    """The ids that may be drawn: all but the first and the special ones; `readable` ones survive as text.

    ValueError if there are none.
    """
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(1, len(tokenizer)) if i not in special]
    if readable:
        again = tokenizer([tokenizer.decode([i]) for i in ids], add_special_tokens=False).input_ids
        ids = [i for i, back in zip(ids, again, strict=True) if back == [i]]
    if not ids:
        raise ValueError("the tokenizer has no tokens to search among")
    return ids
