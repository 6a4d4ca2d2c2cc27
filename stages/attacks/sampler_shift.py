"""Sampler shifts: the same prompts and the same network, sampled in ways that nobody erased the concept under."""

from __future__ import annotations

from dataclasses import dataclass

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Bits, Diffuses, Walks
from stages.backbones.core.forward_process import prediction
from stages.interventions.shifts import Shift, Shifts
from stages.params.concept import Concept
from stages.params.types import Fraction, Natural, Rate


@dataclass(frozen=True)
class SamplerShift:
    """Every prompt in every way: other steps, guidances and solvers; temperature and top-p where bits are drawn.

    Nothing is optimised. Numbers are factors on the backbone's own. For given coarse scales see LatentStart.
    """

    attempts: Natural = 0  # of the concept's prompts, the first so many; 0: all
    steps: tuple[Rate, ...] = (0.5, 2.0)  # of denoisers
    guidance: tuple[Rate, ...] = (0.5, 2.0)  # of backbones that are guided
    solvers: tuple[str, ...] = ("DPMSolverMultistepScheduler", "EulerDiscreteScheduler")  # where eps or v is predicted
    temperatures: tuple[Rate, ...] = (0.5, 2.0)  # of bits
    top_p: tuple[Fraction, ...] = (0.5,)  # of bits

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """Each prompt with each shift; ValueError if the backbone can be sampled in one way only."""
        shifts = self.shifts(backbone)
        if not shifts:
            raise ValueError(f"{backbone.name} is sampled in one way only: name steps, guidance or solvers")
        marked, prompts = Shifts(shifts), concept.prompts[: self.attempts or None]
        found = (Found(prompt, marked.marked(prompt, way)) for prompt in prompts for way in range(len(shifts)))
        return Attempt.of(found, marked)

    def shifts(self, backbone: Backbone) -> list[Shift]:
        """The ways that this backbone can be sampled in."""
        guided = backbone.settings.guidance > 1  # others are sampled without, whatever is asked
        found = [Shift(guidance=factor) for factor in self.guidance if guided and factor != 1]
        if isinstance(backbone, Walks):
            found += [Shift(steps=factor) for factor in self.steps if self._steps(backbone, factor)]
            found += [Shift(solver=name) for name in self.solvers if self._fits(backbone, name)]
        if isinstance(backbone, Bits):
            found += [Shift(temperature=factor) for factor in self.temperatures]
            found += [Shift(top_p=share) for share in self.top_p]
        return found

    @staticmethod
    def _steps(backbone: Backbone, factor: float) -> bool:
        return max(1, round(backbone.settings.steps * factor)) != backbone.settings.steps

    @staticmethod
    def _fits(backbone: Walks, name: str) -> bool:
        """Whether another solver takes over this one's numbers: no flow's, nor of a process that ends in noise."""
        own = backbone.scheduler
        if not isinstance(backbone, Diffuses) or prediction(own) == "flow_prediction":
            return False
        known = {cls.__name__ for cls in own.compatibles}
        return name in known and name != type(own).__name__ and not own.config.get("rescale_betas_zero_snr")
