"""No preset computes the same as another: such a row of a table would be counted twice."""

import json
from itertools import combinations

import pytest
import torch

from stages.params import load_params, method_params, names
from stages.params.check_methods import refusal, works_on
from stages.params.concept import Concept
from stages.params.effect import effective
from stages.params.layers import echoes, untuned
from tests.methods.cut_down import small
from tests.tiny import unet

CALL = {"seeds": [1, 2], "steps": 4, "guidance": 3.0}
PROMPTS = ["a red circle", "a <new> square"]
CLOSE = 1e-3  # two edits are the same if they differ by less than this share of what they change


def presets(backbone):
    """The files that are meant for a backbone."""
    about = load_params("backbones", backbone)
    here = bool(about.get("world"))
    contents = {name: load_params("methods", name) for name in names("methods")}
    meant = [n for n, own in contents.items() if own.get("world", here) == here and works_on(own, about["family"])]
    meant = [n for n in meant if not untuned("methods", n, backbone) and not refusal(contents[n], backbone)]
    return [n for n in meant if not echoes(n, backbone)]


def settings(name, backbone):
    """What of a preset has an effect on a backbone, as text."""
    fields = method_params(name, backbone)
    path = fields.pop("class")
    return json.dumps([path, effective(path, fields)], sort_keys=True)


@pytest.mark.parametrize("backbone", names("backbones"))
def test_no_two_presets_have_the_same_effective_settings(backbone):
    seen = {}
    for name in presets(backbone):
        other = seen.setdefault(settings(name, backbone), name)
        assert other == name, f"{other} and {name} compute the same on {backbone}"


def quick(backbone):
    """The presets that train nothing, and masks."""
    untrained = [name for name in presets(backbone) if not load_params("methods", name).get("trained", True)]
    return [*untrained, "minimalist", "minimalist_binary"]


def test_no_two_presets_make_the_same_edit():
    """Of a concept whose twins have another word: where they merely lack it, rewriting is filtering."""
    like = "sd-shapes"
    concept = Concept("red", ("a red shape", "a red circle"), ("a blue shape", "a blue circle"), ("a green square",))
    backbone = unet()
    plain = backbone.sample(backbone.encode(PROMPTS), **CALL)
    changes = {}
    for name in quick(like):
        try:
            intervention = small(name, like).fit(backbone, concept, seed=0)
        except ValueError:  # refused on so small a network, see test_every_method
            continue
        with intervention.attach(backbone):
            changes[name] = (backbone.sample(backbone.encode(PROMPTS), **CALL) - plain).flatten()
    moved = {name: change for name, change in changes.items() if change.abs().max() > 0}
    assert len(moved) > 10 and "none" not in moved
    same = [(a, b) for a, b in combinations(moved, 2) if alike(moved[a], moved[b])]
    assert not same


def alike(a, b):
    """Whether two changes of the same pictures are one."""
    return bool((a - b).abs().max() < CLOSE * torch.maximum(a.abs().max(), b.abs().max()))
