"""The forward process takes a scheduler at its word, and refuses a prediction that it has no equations for."""

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from stages.backbones.core import forward_process as schedule


@pytest.mark.parametrize("call", [schedule.target, schedule.clean, schedule.noised])
def test_a_network_that_predicts_the_sample_is_refused(call):
    latent, time = torch.ones(1, 4, 2, 2), torch.tensor([500])
    with pytest.raises(ValueError, match="DDIMScheduler: prediction_type must be one of epsilon, .*, got 'sample'"):
        call(DDIMScheduler(prediction_type="sample"), latent, latent, time)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_scheduler_says_what_is_predicted_and_one_that_does_not_is_of_a_flow(kind):
    assert schedule.prediction(DDIMScheduler(prediction_type=kind)) == kind
    assert schedule.prediction(FlowMatchEulerDiscreteScheduler()) == "flow_prediction"
