"""FlowEdit (arXiv 2412.08629): each sample of the concept is edited into one without it, nothing is trained."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.interventions.flowedit import Course, Resample
from stages.params.concept import Concept
from stages.params.types import Count, Natural, NonNegative


@dataclass
class FlowEdit:
    """Samples as usual, then moves the result along the difference of the velocities of both prompts.

    What to replace by what in a prompt is read off the concept's pairs. `first` of `steps_of` steps edit, each with
    `average` draws of noise, but the last `plain`, which are ordinary sampling; all are scaled to the backbone's
    sampler. Works on flows only.
    """

    first: Count = 33
    steps_of: Count = 50
    average: Count = 1
    plain: Natural = 0
    source_guidance: NonNegative = 3.5
    target_guidance: NonNegative = 13.5

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Resample:
        """ValueError where the backbone is no flow, or where the concept's pairs do not say what to replace."""
        from stages.backbones.core.forward_process import prediction

        scheduler = getattr(backbone, "scheduler", None)
        if scheduler is None or prediction(scheduler) != "flow_prediction":
            raise ValueError(f"FlowEdit follows the velocity of a flow, which {backbone.name} does not predict")
        share = backbone.calls(backbone.settings.steps) / self.steps_of
        course = Course(max(round(self.first * share), 1), self.average, round(self.plain * share))
        return Resample(replacements(concept), course, self.source_guidance, self.target_guidance)


def replacements(concept: Concept) -> dict[str, str]:
    """Phrase to phrase, from the words in which each prompt and its neutral twin differ; ValueError when none do."""
    found: dict[str, str] = {}
    for prompt, neutral in concept.pairs():
        before, after = prompt.split(), neutral.split()
        for tag, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if tag in ("replace", "delete"):
                found[" ".join(before[a:b])] = " ".join(after[c:d])
    if not found:
        raise ValueError(f"concept {concept.name}: its prompts and their neutral twins differ in no word")
    return found
