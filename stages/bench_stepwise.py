"""bench_stepwise: time and memory of backpropagation by steps against the whole unrolled graph."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.cli import entry, parser, set_up


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Times one gradient of minimalist masks at 4 denoising steps, both ways, and counts saved elements at 4 to 32."""
    options = parser(main.__doc__, "backbone")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--batch", type=int, default=4)
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.files import write_json

    work = gradients(load_backbone(args.backbone), args.batch)
    seconds = {name: [] for name in work}
    for _ in range(args.repeats + 1):  # alternating, so that both see the same machine; the first is warm-up
        for name, run in work.items():
            started = time.process_time()
            run(4)
            seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    saved = {
        name: {steps: saved_elements(lambda s=steps, r=run: r(s)) for steps in (4, 8, 16, 32)}
        for name, run in work.items()
    }
    ratio = medians["by steps"] / medians["whole graph"]
    write_json(Path(args.out), {"cpu_seconds": medians, "ratio": ratio, "saved_elements": saved})
    for name in work:
        counts = ", ".join(f"{steps} steps: {count:,}" for steps, count in saved[name].items())
        sys.stdout.write(f"{name}: {medians[name]:.3f} s; saved elements at {counts}\n")
    sys.stdout.write(f"by steps / whole graph: {ratio:.2f} times\n")
    return 0


def gradients(backbone: Any, batch: int) -> dict[str, Callable[[int], Any]]:
    """One gradient of all scores at a number of denoising steps, by steps and through the whole graph."""
    import torch

    from stages.interventions.mask import Mask, replayable
    from stages.interventions.mask_places import find_places, sizes
    from stages.stepwise import Run, unroll

    places = find_places(backbone, ("hidden", "norm"))
    mask = Mask.fresh(sizes(backbone, places), places, "hard_concrete", start=1.0, noise=0.5).to(backbone.device)
    condition, start = backbone.encode([""] * batch), backbone.noise(range(batch))

    def gradient(steps: int, whole: bool) -> Any:
        run = Run(backbone, condition, seeds=range(batch), steps=steps, guidance=backbone.settings.guidance)

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
