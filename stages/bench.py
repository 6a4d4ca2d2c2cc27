"""bench: what every stage of the last runs spent its time on, and what backpropagation by steps costs."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, set_up
from stages.params.layout import ARTIFACTS
from stages.params.project import located
from stages.store.files import write_json

COLUMNS = ("stage", "jobs", "import s", "set-up s", "work s", "images/s", "peak MB", "import > work")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per stage: medians of seconds, images per second, the largest peak of memory.

    `--stepwise` measures instead what backpropagation by steps costs beside that through the whole unrolled graph,
    `--root` the Frechet distance's matrix root beside scipy's.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--artifacts", type=Path)
    parser.add_argument("--stepwise", metavar="BACKBONE", help="time gradients of minimalist masks there instead")
    parser.add_argument("--root", type=int, metavar="D", help="time the trace of a root of D x D matrices instead")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    artifacts = args.artifacts or located(ARTIFACTS)
    if args.stepwise:
        set_up(args.threads)
        stepwise(args.stepwise, artifacts / "bench-stepwise.json")
        return 0
    if args.root:
        set_up(args.threads)
        root(args.root, artifacts / "bench-root.json")
        return 0
    records = [json.loads(path.read_text()) for path in sorted(artifacts.rglob("record-*.json"))]
    records = [record for record in records if "phases" in record]
    if not records:
        raise FileNotFoundError(f"no records in {artifacts}: run a study first, for instance with make reproduce")
    sys.stdout.write(render(summarise(records)) + "\n")
    return 0


def summarise(records: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """One row of COLUMNS per stage (training by method, pretraining by what was trained), in order of first mention."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "stage": label(record),
            **record["phases"],
            "images": (record.get("notes") or {}).get("images"),
            "peak": record["peak_memory_mb"],
        }
        for record in records
    )
    rows = []
    for stage, group in table.groupby("stage", sort=True):
        middle = group[["import", "set_up", "work"]].median()
        speed = (group["images"].astype(float) / group["work"]).median()
        late = int((group["import"] > group["work"]).sum())
        rows.append((stage, len(group), *middle.round(2), round(speed, 1), round(group["peak"].max()), late))
    return rows


def label(record: dict[str, Any]) -> str:
    """`train esd`, `pretrain judge`, `sample`."""
    params = record.get("params") or {}
    detail = {"train": str(params.get("class", "")).rpartition(".")[2], "pretrain": params.get("what", "")}
    return f"{record['stage']} {detail.get(record['stage'], '')}".strip()


def render(rows: Sequence[tuple[Any, ...]]) -> str:
    """The rows as a table of aligned columns; what a stage does not have is a dash."""
    cells = [COLUMNS, *(tuple("-" if value != value else str(value) for value in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(lines)


def stepwise(name: str, out: Path, repeats: int = 5, batch: int = 4) -> None:
    """Times one gradient of minimalist masks at 4 denoising steps, both ways, and counts saved elements at 4 to 32."""
    from stages.backbones import load_backbone

    work = gradients(load_backbone(name), batch)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats + 1):  # alternating, so that both see the same machine; the first is warm-up
        for name, run in work.items():
            started = time.process_time()
            run(4)
            seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    saved = {
        name: {steps: saved_elements(partial(run, steps)) for steps in (4, 8, 16, 32)} for name, run in work.items()
    }
    ratio = medians["by steps"] / medians["whole graph"]
    write_json(out, {"cpu_seconds": medians, "ratio": ratio, "saved_elements": saved})
    for name in work:
        counts = ", ".join(f"{steps} steps: {count:,}" for steps, count in saved[name].items())
        sys.stdout.write(f"{name}: {medians[name]:.3f} s; saved elements at {counts}\n")
    sys.stdout.write(f"by steps / whole graph: {ratio:.2f} times\n")


def gradients(backbone: Any, batch: int) -> dict[str, Callable[[int], Any]]:
    """One gradient of all scores at a number of denoising steps, by steps and through the whole graph."""
    import torch

    from stages.interventions.masks.mask import Mask, replayable
    from stages.interventions.masks.places import find_places, sizes
    from stages.reading.unroll import Replay, unroll

    places = find_places(backbone, ("hidden", "norm"))
    mask = Mask.fresh(sizes(backbone, places), places, "hard_concrete", start=1.0, noise=0.5).to(backbone.device)
    condition, start = backbone.encode([""] * batch), backbone.noise(range(batch))

    def gradient(steps: int, whole: bool) -> Any:
        run = Replay(backbone, condition, seeds=range(batch), steps=steps, guidance=backbone.settings.guidance)

        def step(index: int, latent: torch.Tensor) -> torch.Tensor:
            with mask.noisy(replayable(0)), mask.attach(backbone):
                return run(index, latent)

        final = start
        if whole:
            for index in range(steps):
                final = step(index, final)
        else:
            final = unroll(step, steps, start, mask.parameters())
        return torch.autograd.grad(final.square().mean(), list(mask.parameters()))

    return {"by steps": lambda steps: gradient(steps, False), "whole graph": lambda steps: gradient(steps, True)}


def root(width: int, out: Path) -> None:
    """Times tr (S1 S2)^(1/2) of drawn covariances by `stages.metrics.frechet` and by scipy, and compares both."""
    import torch
    from scipy.linalg import sqrtm

    from stages.metrics.frechet import root_trace
    from stages.seeds import Purpose, generator

    source, scale = generator(Purpose.BOOTSTRAP, 0), torch.linspace(0.1, 2, width, dtype=torch.float64)
    covs = [torch.cov((torch.randn(2 * width, width, generator=source).double() * scale).T) for _ in range(2)]
    work: dict[str, Callable[[], float]] = {
        "eigenvalues": lambda: root_trace(*covs),
        "scipy": lambda: float(sqrtm((covs[0] @ covs[1]).numpy()).real.trace()),
    }
    seconds, values = {}, {}
    for name, run in work.items():
        started = time.process_time()
        values[name] = run()
        seconds[name] = time.process_time() - started
    ratio = seconds["scipy"] / seconds["eigenvalues"]
    apart = abs(values["eigenvalues"] / values["scipy"] - 1)
    write_json(out, {"width": width, "cpu_seconds": seconds, "ratio": ratio, "relative_difference": apart})
    sys.stdout.write(f"root of {width} x {width}: {seconds['eigenvalues']:.2f} s, scipy {seconds['scipy']:.2f} s, ")
    sys.stdout.write(f"{ratio:.1f} times; relative difference {apart:.1e}\n")


def saved_elements(work: Callable[[], Any]) -> int:
    """The peak of elements that autograd keeps for the backward pass while `work` runs."""
    import weakref

    import torch

    count = {"now": 0, "peak": 0}

    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

    def free(size: int) -> None:
        count["now"] -= size

    def pack(tensor: torch.Tensor) -> Saved:
        count["now"] += tensor.numel()
        count["peak"] = max(count.values())
        saved = Saved(tensor)
        weakref.finalize(saved, free, tensor.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        work()
    return count["peak"]


if __name__ == "__main__":
    sys.exit(main())
