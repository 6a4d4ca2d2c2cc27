"""Clocks, the machine's own matrix rate, and the matrix work of the transformer."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..linear import multiply, pack
from ..schedules import Schedule
from ..transformer import Infinity

Clock = Callable[[], float]
Run = Callable[[], object]


def best_of(runs: Mapping[str, Run], repeats: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """The shortest of `repeats` times of each run, in seconds; runs take turns, so that disturbances hit all alike."""
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            run()
            best[name] = min(best[name], clock() - start)
    return best


@dataclass(frozen=True)
class Multiplier:
    """A way of multiplying by a weight."""

    multiply: Callable[[Tensor, Tensor], Tensor]  # x (rows, inputs) and the prepared weight to (rows, outputs)
    prepare: Callable[[Tensor], Tensor] = torch.Tensor.detach  # called once per weight (outputs, inputs)


def multipliers() -> dict[str, Multiplier]:
    """The ways that this machine has, by name."""
    ways = {"torch": Multiplier(torch.nn.functional.linear)}
    if torch.backends.mkldnn.is_available():
        ways |= {"oneDNN": Multiplier(multiply), "packed": Multiplier(multiply, pack)}
    return ways


def pass_over_weights(model: Infinity, rows: Sequence[int], way: Multiplier) -> Callable[[], None]:
    """A function that multiplies, for each number of `rows`, as many rows by every matrix of the blocks."""
    weights = [p for name, p in model.blocks.named_parameters() if p.ndim == 2 and "ca.mat_kv" not in name]
    generator = torch.Generator().manual_seed(0)
    widths, dtype = {weight.shape[1] for weight in weights}, weights[0].dtype
    inputs = [{n: torch.randn(count, n, generator=generator).to(dtype) for n in widths} for count in rows]
    prepared = [way.prepare(weight) for weight in weights]

    @torch.no_grad()
    def run() -> None:
        for some in inputs:
            for weight, packed in zip(weights, prepared, strict=True):
                way.multiply(some[weight.shape[1]], packed)

    return run


def weight_work(model: Infinity, rows: int) -> float:
    """Floating-point operations of `pass_over_weights`."""
    blocks = model.blocks.named_parameters()
    return 2.0 * rows * sum(p.numel() for name, p in blocks if p.ndim == 2 and "ca.mat_kv" not in name)


def sampling_work(model: Infinity, grids: Schedule, rows: int, text_tokens: int) -> float:
    """Floating-point operations of sampling `rows` batch rows: blocks, attention, text and head."""
    config = model.config
    width, depth = config.width, config.depth
    seen = sum(n * end for n, end in zip(grids.lengths, grids.ends, strict=True))
    attention = 4.0 * rows * depth * width * (seen + grids.tokens * text_tokens)
    per_text = 2 * config.text_channels * width + config.text_channels * width + width**2 + depth * 2 * width**2
    ends = grids.tokens * (config.bits + 2 * config.bits) * width + 9 * width**2
    return weight_work(model, rows * grids.tokens) + attention + 2.0 * rows * (text_tokens * per_text + ends)


def peak_mebibytes() -> float:
    """The most memory that this process has held, MiB; on Linux from /proc, as `ru_maxrss` includes the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        mark = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(mark.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def processor() -> str:
    """The processor's name and the vector instructions that torch uses on it."""
    name = torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None
    return f"{name or platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def has_fast_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices natively."""
    capability = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capability.get("avx512_bf16") or capability.get("amx_bf16") or capability.get("amx_tile"))
