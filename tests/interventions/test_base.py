"""Files of interventions: older class names still load, and numbers that are not finite are never written."""

import json

import pytest
import torch

from stages.control.sites import Site
from stages.interventions import Stack, load, save
from stages.interventions.base import ALIASES, Intervention, class_path, find_class
from stages.interventions.guidance import PromptGuidance
from stages.interventions.steering.steering import Steering
from stages.interventions.weights import Weights

PLACE = Site(0, "cross_attn")


def transport(**tensors):
    maps = {(PLACE, 0): {"weight": torch.ones(2), "bias": torch.zeros(2)} | tensors}
    return Steering("affine", maps, {(PLACE, 0): {"cond": 1.0, "uncond": 0.0}})


@pytest.mark.parametrize("old", ALIASES)
def test_a_class_of_an_older_file_is_found_under_its_name_of_today(old):
    cls = find_class(old)
    assert issubclass(cls, Intervention) and cls.__module__.startswith("stages.interventions.")
    assert find_class(ALIASES[old]) is cls


def test_an_older_file_loads_alone_and_in_a_stack(tmp_path):
    save(Stack(PromptGuidance("a red shape", 2.0), transport()), tmp_path)
    header = tmp_path / "intervention.json"
    content = json.loads(header.read_text())
    classes = [part["class"] for part in content["spec"]["parts"]]
    assert classes == ["guidance.PromptGuidance", "steering.steering.Steering"]
    for part, old in zip(content["spec"]["parts"], ("guidance.NegativePrompt", "steering.Steering"), strict=True):
        part["class"] = old
    header.write_text(json.dumps(content))
    guidance, steering = load(tmp_path).parts
    assert guidance.strength == 2.0 and class_path(steering) == "steering.steering.Steering"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named_and_not_written(tmp_path, value):
    wrong = Weights({"block.weight": torch.tensor([1.0, value]), "block.bias": torch.zeros(2)})
    for intervention, name in ((wrong, "block.weight"), (Stack(transport(), wrong), "1/block.weight")):
        with pytest.raises(FloatingPointError, match=name) as caught:
            save(intervention, tmp_path / "run")
        assert "block.bias" not in str(caught.value) and "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_a_support_may_be_without_bounds_but_not_without_meaning(tmp_path):
    everywhere = torch.tensor([[-float("inf")] * 2, [float("inf")] * 2])
    save(transport(support=everywhere), tmp_path)
    assert torch.equal(load(tmp_path).tensors()[f"{PLACE}/0/support"], everywhere)
    save(Stack(transport(support=everywhere)), tmp_path)
    for broken in ({"support": everywhere * float("nan")}, {"bias": everywhere[1]}):
        with pytest.raises(FloatingPointError, match=next(iter(broken))):
            save(transport(**broken), tmp_path)
