"""Measure sampling, decoding and a training step at a published size: `python -m Infinity.bench`.

Compare only figures of one run. The floor of sampling is its matrix work over the rate at which this machine multiplies
all tokens by the model's own weights: by torch's linear, and by oneDNN (if there) with packed and unpacked weights.
Weights are random, so logits are small; large ones take a slower path in bf16 (heads.py).
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import torch

from ..config import InfinityConfig, TokenizerConfig
from ..linear import Linear, Packed, packed_weights
from ..loss import bitwise_loss
from ..sampling import sample
from ..schedules import schedule
from ..settings import Sampling
from ..text import Text
from ..tokenizer import Tokenizer
from ..transformer import Infinity, margins
from . import measure
from .plain import plain_logits, plain_sample

log = logging.getLogger(__name__)
Bits = Sequence[torch.Tensor]  # one (B, h, w, d) per scale

WANTED = {
    "sampling over torch's floor": "at most 1.25",
    "sampling over oneDNN's floor": "the same, by a faster rate",
    "plain sampling over ours": "more than 1",
    "bf16: float32 over bf16": "at least 1.8",
    "plain decoding over ours": "at least 1.3, here or in bf16",
    "plain step over ours": "at least 1",
    "plain training peak over ours": "more than 1",
}
SETTINGS, SEED = Sampling(guidance=3.0, temperature=0.5, top_p=0.97), 1


class Bench:
    """A model with random weights, a prompt, and a clock."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.repeats = 1 if options.quick else options.repeats
        self.clock = time.process_time if options.cpu_time else time.perf_counter
        self.grids = schedule("0.06M").prefix(options.scales)
        self.model = Infinity(InfinityConfig.named(options.size, 16)).eval()
        generator = torch.Generator().manual_seed(0)
        self.text = Text.of([torch.randn(options.text_tokens, self.model.config.text_channels, generator=generator)])
        self.inputs = torch.randn(1, self.grids.tokens - 1, 16, generator=generator)
        self.labels = torch.randint(2, (1, self.grids.tokens, 16), generator=generator)

    def path(self) -> str:
        """Which path sampling takes on this machine."""
        linears = [one.weight for one in self.model.modules() if isinstance(one, Linear)]
        packed = sum(map(Packed.possible, linears))
        bf16 = "packed, texts folded" if measure.has_fast_bf16() else "not measured (needs AVX-512 or AMX)"
        return f"float32: {packed} of {len(linears)} weights packed for oneDNN; bf16 {bf16}"

    def sample(self, model: Infinity | None = None) -> Bits:
        """Bits (1, h, w, 16) per scale by `Infinity.sample`."""
        return sample(model or self.model, self.text, self.grids, SETTINGS, seeds=[SEED]).bits

    def plain(self) -> Bits:
        """Bits (1, h, w, 16) per scale by the plain version."""
        return plain_sample(self.model, self.text, self.grids, SETTINGS, seed=SEED)

    def step(self, kind: str) -> None:
        """Forward and backward of one picture, `ours` or `plain`."""
        self.model.zero_grad()
        forward: Callable[..., torch.Tensor] = self.model if kind == "ours" else lambda *a: plain_logits(self.model, *a)
        logits = forward(self.inputs, self.text, self.grids)
        bitwise_loss(margins(logits), self.labels, self.grids).backward()

    def sampling(self) -> dict[str, float]:
        """Sampling compared with its floor and with the plain version; in bf16 too if the processor multiplies it."""
        ours = copy.deepcopy(self.model)
        half = copy.deepcopy(self.model).cast_blocks(torch.bfloat16) if measure.has_fast_bf16() else None
        draws: dict[str, Callable[[], Bits]] = {"ours": lambda: self.sample(ours), "plain": self.plain}
        if half is not None:
            draws["bf16"] = lambda: self._bf16(half)
        runs: dict[str, Callable[[], object]] = {**draws, "stored": self.sample, **self._passes(half)}
        with ExitStack() as stack:
            start = self.clock()
            stack.enter_context(packed_weights(ours))
            packing = self.clock() - start
            if half is not None:
                stack.enter_context(packed_weights(half))
            seconds = measure.best_of(runs, self.repeats, self.clock)
            bits = {name: draw() for name, draw in draws.items()}
        figures = self._over_floors(seconds) | {
            "packing the weights, s": packing,
            "sampling with weights as stored, s": seconds["stored"],
            "plain sampling over ours": seconds["plain"] / seconds["ours"],
            "bits equal to plain": _agreement(bits["ours"], bits["plain"]),
        }
        if half is not None:
            figures["bf16: float32 over bf16"] = seconds["ours"] / seconds["bf16"]
            figures["bf16: linears alone, s"] = seconds["products bf16"]
            figures["bf16: linears, float32 over bf16"] = seconds["products"] / seconds["products bf16"]
            figures["bf16: plain float32 over bf16"] = seconds["plain"] / seconds["bf16"]
            figures["bf16: bits equal to float32"] = _agreement(bits["ours"], bits["bf16"])
        return figures

    def _passes(self, half: Infinity | None) -> dict[str, Callable[[], object]]:
        """Passes over the weights: for the floors, and with bf16 the linears of a sampling alone."""
        rows, ways = 2 * self.grids.tokens, measure.multipliers()
        passes: dict[str, Callable[[], object]] = {
            f"floor {name}": measure.pass_over_weights(self.model, [rows], way) for name, way in ways.items()
        }
        if half is not None:
            scales = [2 * count for count in self.grids.lengths]
            passes["products"] = measure.pass_over_weights(self.model, scales, ways["packed"])
            passes["products bf16"] = measure.pass_over_weights(half, scales, ways["packed"])
        return passes

    def _over_floors(self, seconds: dict[str, float]) -> dict[str, float]:
        """Sampling over the time of its matrix work alone, at the rate of a pass over the weights."""
        work = measure.sampling_work(self.model, self.grids, 2, self.text.lengths[0])
        scale = work / measure.weight_work(self.model, 2 * self.grids.tokens)
        floors = {name: seconds[f"floor {name}"] * scale for name in measure.multipliers()}
        figures = {
            "torch's matrix rate, GFLOP/s": work / floors["torch"] / 1e9,
            "sampling, s": seconds["ours"],
            "sampling over torch's floor": seconds["ours"] / floors["torch"],
        }
        if "packed" in floors:
            figures["oneDNN's matrix rate, GFLOP/s"] = work / floors["packed"] / 1e9
            figures["sampling over oneDNN's floor"] = seconds["ours"] / floors["packed"]
            figures["stored weights over oneDNN's floor"] = seconds["stored"] / floors["oneDNN"]
        return figures

    def _bf16(self, model: Infinity) -> Bits:
        with torch.autocast("cpu", torch.bfloat16):
            return self.sample(model)

    def decoding(self) -> dict[str, float]:
        """The tokenizer's decoder, plain and sped up; in bf16 too if the processor multiplies it."""
        plain = Tokenizer(TokenizerConfig.released(16)).eval()
        fast = copy.deepcopy(plain).speed_up()
        codes = torch.randn(1, 16, *self.grids.grids[-1], generator=torch.Generator().manual_seed(0)) / 4
        runs = {"plain": lambda: plain.decode(codes), "fast": lambda: fast.decode(codes)}
        if measure.has_fast_bf16():
            runs["bf16"] = lambda: _in_bf16(fast, codes)
        with torch.no_grad():
            seconds, image = measure.best_of(runs, self.repeats, self.clock), plain.decode(codes)
            found = {"decoding, s": seconds["fast"], "plain decoding over ours": seconds["plain"] / seconds["fast"]}
            found["largest difference in decoding"] = _apart(image, fast.decode(codes))
            if "bf16" in runs:
                found["plain decoding over bf16"] = seconds["plain"] / seconds["bf16"]
                found["largest difference in bf16"] = _apart(image, _in_bf16(fast, codes))
        return found

    def training(self) -> dict[str, float]:
        """Forward and backward of one picture, plain and ours."""
        runs = {kind: lambda kind=kind: self.step(kind) for kind in ("ours", "plain")}
        seconds = measure.best_of(runs, self.repeats, self.clock)
        return {"training step, s": seconds["ours"], "plain step over ours": seconds["plain"] / seconds["ours"]}

    def memory(self, argv: list[str]) -> dict[str, float]:
        """Peak memory of two training steps, each version in its own process."""
        self.model.zero_grad()
        ours, plain = (_peak(kind, argv) for kind in ("ours", "plain"))
        return {"training peak, MiB": ours, "plain training peak over ours": plain / ours}


def _in_bf16(tokenizer: Tokenizer, codes: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return tokenizer.decode(codes)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def _agreement(one: Bits, other: Bits) -> float:
    """Share of bits that are equal."""
    pairs = [(a == b).float().flatten() for a, b in zip(one, other, strict=True)]
    return float(torch.cat(pairs).mean())


def _peak(kind: str, argv: list[str]) -> float:
    """Peak memory in MiB of two training steps in a new process."""
    command = [sys.executable, "-m", "Infinity.bench", *argv, "--peak-of", kind]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(argv: list[str] | None = None, write: Callable[[str], object] = print) -> int:
    """Print the machine, the path that it takes and one line per figure; with --out, also write the figures as JSON."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m Infinity.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="infinity_layer12", help="a published size")
    parser.add_argument("--scales", type=int, default=7, help="scales of the 256 x 256 schedule to use")
    parser.add_argument("--text-tokens", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="number of turns; the shortest counts")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor seconds: for a busy machine, one thread"
    )
    parser.add_argument("--quick", action="store_true", help="one turn and no peaks of memory: about a minute")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--peak-of", choices=("ours", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    if options.peak_of:
        bench.step(options.peak_of)
        bench.step(options.peak_of)
        write(str(measure.peak_mebibytes()))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write(f"{measure.processor()}, {options.threads} threads, {options.size}, {date.today()}")
    write(bench.path())
    figures: dict[str, float] = {}
    parts = {"sampling": bench.sampling, "decoding": bench.decoding, "training": bench.training}
    if not options.quick:
        parts["memory"] = lambda: bench.memory(argv)
    for name, part in parts.items():
        log.info("measuring %s ...", name)
        found = part()
        figures |= found
        for key, value in found.items():
            write(f"{key:<36} {value:<8.4g} {WANTED.get(key, '')}".rstrip())
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
