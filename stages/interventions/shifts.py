"""Other ways to sample the same network: steps, guidance, solver, and what an autoregressive one draws by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stages.control.state import Condition, Sampler
from stages.interventions.marked import Marked

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


@dataclass(frozen=True)
class Shift:
    """One way to sample, as it differs from the backbone's own."""

    steps: float = 1.0  # factor
    guidance: float = 1.0  # factor
    solver: str | None = None  # a diffusers class that takes over the numbers of the backbone's own
    temperature: float = 1.0  # factor, of families that draw bits
    top_p: float | None = None  # of those


class Shifts(Marked):
    """Has `a red circle <shift 1>` sampled in another way; what edits the sampler stays inside."""

    MARK = "shift"

    def __init__(self, shifts: Sequence[Shift]) -> None:
        super().__init__()
        self.shifts = tuple(shifts)

    def count(self) -> int:
        """The number of shifts."""
        return len(self.shifts)

    def drawn(self, backbone: Backbone, sampler: Sampler, condition: Condition, way: int, **run: Any) -> Tensor:
        """Pictures (B, 3, H, W) or clips, sampled in that way."""
        shift = self.shifts[way]
        steps, guidance = max(1, round(run["steps"] * shift.steps)), run["guidance"] * shift.guidance
        with _shifted(backbone, shift):
            return sampler(condition, seeds=run["seeds"], steps=steps, guidance=guidance)

    def spec(self) -> dict[str, Any]:
        """The shifts."""
        return {"shifts": [asdict(shift) for shift in self.shifts]}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Shifts:
        """From what `spec` says."""
        return cls([Shift(**shift) for shift in spec["shifts"]])


@contextmanager
def _shifted(backbone: Backbone, shift: Shift) -> Iterator[None]:
    """The backbone's own solver and settings changed while open."""
    from stages.backbones.loading.checkpoints import choose_scheduler

    own: dict[str, Any] = {name: vars(backbone)[name] for name in ("settings", "scheduler") if name in vars(backbone)}
    try:
        settings = backbone.settings
        top_p = settings.top_p if shift.top_p is None else shift.top_p
        backbone.settings = replace(settings, temperature=settings.temperature * shift.temperature, top_p=top_p)
        if shift.solver is not None:
            vars(backbone)["scheduler"] = choose_scheduler(shift.solver, own["scheduler"], backbone.name)
        yield
    finally:
        vars(backbone).update(own)
