"""FlowEdit (arXiv 2412.08629): each sample of the concept is edited into one without it."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Walks
from stages.interventions.flowedit import Course, Resample
from stages.methods.shared.wording import stand_ins
from stages.params.concept import Concept
from stages.params.types import Count, Natural, NonNegative


@dataclass(frozen=True)
class FlowEdit:
    """z += (s' - s) mean_n (v_target(z_target) - v_source(z_source)) from each sample of the concept on, arXiv
    2412.08629, Algorithm 1. Flows only; nothing is trained.
    """

    first: Count = 33  # steps that edit, the last ones of a sampler of `steps_of` steps; scaled to the backbone's
    steps_of: Count = 50
    average: Count = 1  # draws of noise n in each of them
    plain: Natural = 0  # the last of them are ordinary sampling of the target prompt
    source_guidance: NonNegative = 3.5  # of the prompt with the concept
    target_guidance: NonNegative = 13.5  # of the prompt without

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Resample:
        """The edit of samples; ValueError for a backbone that is no flow, or a concept whose twins name it, too."""
        from stages.backbones.core.forward_process import prediction

        if not isinstance(backbone, Walks) or prediction(backbone.scheduler) != "flow_prediction":
            raise ValueError(f"FlowEdit follows the velocity of a flow, which {backbone.name} does not predict")
        share = backbone.calls(backbone.settings.steps) / self.steps_of
        course = Course(max(round(self.first * share), 1), self.average, round(self.plain * share))
        return Resample(stand_ins(concept, concept.called()), course, self.source_guidance, self.target_guidance)
