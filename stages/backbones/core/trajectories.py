"""The frozen network's own samples, to train on: pools by prompt, each with the seed that it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from stages.params.kept import Kept, enough
from stages.seeds import pool
from stages.store.tensors import Stored, open_stored, write_alike

Make = Callable[[str, list[int], Kept], Tensor]  # prompt, seeds (n), states to keep -> a pool (n, ...)
SEEDS = "seeds"  # the key of a file's metadata: prompt -> seed, as JSON
STATES = "states"  # and that of what is kept of each run
AGAIN = "make it again with: python -m stages.precompute"


class Trajectories:
    """Pools of samples by prompt, (n, T + 1, ...) latents of whole runs or (n, L, bits) of pictures.

    Of runs of which less is kept, (n, 2, ...) or (n, 1, ...). Pools are on the CPU, or in a file of which only the rows
    and states that are drawn are read. Row i of a pool that was gathered with a seed is the run of
    `stages.seeds.pool(seed, n)[i]`.
    """

    def __init__(self) -> None:
        self.pools: dict[str, Tensor | Stored] = {}
        self.seeds: dict[str, int] = {}  # of each pool
        self.kept: dict[str, Kept] = {}  # of each pool's runs
        self.folder: Path | None = None  # where pools that are gathered are kept, on disk; None: in memory

    def missing(self, prompts: Iterable[str], states: Kept = "all") -> list[str]:
        """Those of the prompts that have no pool in which these states are kept, each once."""
        return [prompt for prompt in dict.fromkeys(prompts) if not self._has(prompt, states)]

    def gather(self, prompts: Iterable[str], seed: int, n: int, make: Make, states: Kept = "all") -> None:
        """Makes a pool of n samples of every prompt that has none.

        With a folder, in a file without a name there, which is gone with the process.
        """
        missing = self.missing(prompts, states)
        if self.folder is not None and missing:
            path = self.folder / f".gathered-{os.getpid()}.safetensors"
            self.write(path, missing, seed, n, make, states)
            try:
                self.update(self.read(path))
            finally:
                path.unlink()
            return
        for prompt in missing:
            self.pools[prompt] = make(prompt, pool(seed, n), states)
            self.seeds[prompt], self.kept[prompt] = seed, states

    def draw(
        self, prompts: Sequence[str], generator: torch.Generator, at: list[int] | slice, states: Kept = "all"
    ) -> Tensor:
        """One random sample of each prompt's pool, (B, ...), at the positions `at` of its first axis, on the CPU.

        KeyError for a prompt without a pool in which these states are kept.
        """
        rows = []
        for prompt in prompts:
            if not self._has(prompt, states):
                less = f" with {states} states" if prompt in self.pools else ""
                raise KeyError(f"no samples of {prompt!r}{less}: gather them before anything is attached")
            pool = self.pools[prompt]
            rows.append(pool[int(torch.randint(len(pool), (), generator=generator)), at])
        return torch.stack(rows)

    def update(self, other: Trajectories) -> None:
        """Takes over the pools of others, in place of pools of the same prompts."""
        self.pools |= other.pools
        self.seeds |= other.seeds
        self.kept |= other.kept

    @staticmethod
    def write(path: Path, prompts: Iterable[str], seed: int, n: int, make: Make, states: Kept = "all") -> None:
        """Makes a pool of n samples of every prompt, and writes one after another: a tensor per prompt in a safetensors
        file, the seeds in its metadata."""
        names = list(dict.fromkeys(prompts))
        metadata = {SEEDS: json.dumps(dict.fromkeys(names, seed)), STATES: states}
        write_alike(path, names, (make(prompt, pool(seed, n), states) for prompt in names), metadata)

    @classmethod
    def read(cls, path: Path | str) -> Trajectories:
        """The pools of a file that `write` wrote, of which nothing is in memory yet.

        FileNotFoundError or ValueError, in one line, for a file that is missing, damaged or without seeds. Samples that
        are not finite are a FloatingPointError once they are drawn.
        """
        trajectories, path = cls(), Path(path)
        try:
            pools, metadata = open_stored(path, f"a backbone that draws no pictures; mend it and {AGAIN}")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing; make it with: python -m stages.precompute") from error
        seeds = json.loads(metadata.get(SEEDS, "{}"))
        unknown = [prompt for prompt in pools if prompt not in seeds]
        if unknown:
            raise ValueError(f"{path} does not say from which seed the trajectories of {unknown[0]!r} came; {AGAIN}")
        trajectories.pools = dict(pools)
        trajectories.seeds = {prompt: int(seeds[prompt]) for prompt in pools}
        trajectories.kept = dict.fromkeys(pools, _kept(metadata.get(STATES, "all"), path))
        return trajectories

    def _has(self, prompt: str, states: Kept) -> bool:
        return prompt in self.pools and enough(self.kept.get(prompt, "all"), states)


def _kept(said: str, path: Path) -> Kept:
    for kept in get_args(Kept):
        if said == kept:
            return kept
    raise ValueError(f"{path} keeps states {said!r}, which is none of final, ends and all; {AGAIN}")
