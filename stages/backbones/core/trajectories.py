"""The frozen network's own samples, to train on: pools by prompt, each with the seed that it came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.seeds import pool
from stages.store.files import replacing
from stages.store.finite import check_tensors

Make = Callable[[str, list[int]], Tensor]  # prompt, seeds (n) -> a pool (n, ...)
SEEDS = "seeds"  # the key of a file's metadata: prompt -> seed, as JSON


class Trajectories:
    """Pools of samples by prompt, (n, T + 1, ...) latents of whole runs or (n, L, bits) of pictures, on the CPU.

    Row i of a pool that was gathered with a seed is the run of `stages.seeds.pool(seed, n)[i]`.
    """

    def __init__(self) -> None:
        self.pools: dict[str, Tensor] = {}
        self.seeds: dict[str, int] = {}  # of each pool

    def missing(self, prompts: Iterable[str]) -> list[str]:
        """Those of the prompts that have no pool, each once."""
        return [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.pools]

    def gather(self, prompts: Iterable[str], seed: int, n: int, make: Make) -> None:
        """Makes a pool of n samples of every prompt that has none."""
        for prompt in self.missing(prompts):
            self.pools[prompt], self.seeds[prompt] = make(prompt, pool(seed, n)), seed

    def draw(self, prompts: Sequence[str], generator: torch.Generator, at: list[int] | slice) -> Tensor:
        """One random sample of each prompt's pool, (B, ...), at the positions `at` of its first axis, on the CPU.

        KeyError for a prompt without a pool.
        """
        rows = []
        for prompt in prompts:
            if prompt not in self.pools:
                raise KeyError(f"no samples of {prompt!r}: gather them before anything is attached")
            pool = self.pools[prompt]
            rows.append(pool[int(torch.randint(len(pool), (), generator=generator))][at])
        return torch.stack(rows)

    def update(self, other: Trajectories) -> None:
        """Takes over the pools of others, in place of pools of the same prompts."""
        self.pools |= other.pools
        self.seeds |= other.seeds

    def save(self, path: Path) -> None:
        """Writes one safetensors file: a tensor per prompt, and the seeds in its metadata."""
        metadata = {SEEDS: json.dumps(self.seeds)}
        with replacing(path) as temporary:
            save_file({name: pool.contiguous() for name, pool in self.pools.items()}, temporary, metadata)

    @classmethod
    def read(cls, path: Path | str) -> Trajectories:
        """The pools of a file that `save` wrote.

        FileNotFoundError or ValueError, in one line, for a file that is missing, damaged or without seeds;
        FloatingPointError names pools that are not finite.
        """
        trajectories = cls()
        try:
            with safe_open(path, framework="pt") as file:
                seeds = json.loads((file.metadata() or {}).get(SEEDS, "{}"))
                # copies, since a product's last bit depends on where its factors lie in memory
                trajectories.pools = {prompt: file.get_tensor(prompt).clone() for prompt in file.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing; make it with: python -m stages.precompute") from error
        except SafetensorError as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
        unknown = [prompt for prompt in trajectories.pools if prompt not in seeds]
        if unknown:
            raise ValueError(
                f"{path} does not say from which seed the trajectories of {unknown[0]!r} came; make it again with: "
                "python -m stages.precompute"
            )
        check_tensors(str(path), trajectories.pools, "a backbone that draws no pictures; mend it and precompute again")
        trajectories.seeds = {prompt: int(seeds[prompt]) for prompt in trajectories.pools}
        return trajectories
