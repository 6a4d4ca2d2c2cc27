"""Pictures of a concept in the midst of a training, for a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.backbones.core.preview import preview
from stages.interventions.base import holder

if TYPE_CHECKING:
    from torch import Tensor

    from stages.backbones.core.base import Backbone
    from stages.store.tracking import Painter


def painter(backbone: Backbone, prompts: Sequence[str]) -> Painter:
    """Draws pictures of the first prompts with the intervention attached that has the trained parameters.

    (N, 3, H, W) or (N, F, 3, H, W) in [0, 1]; None if no intervention has them.
    """

    def paint(parameters: Sequence[Tensor]) -> Tensor | None:
        intervention = holder(parameters)
        if intervention is None:
            return None
        with intervention.attach(backbone):
            return preview(backbone, prompts)

    return paint
