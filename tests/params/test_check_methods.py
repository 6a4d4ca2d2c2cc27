"""Methods and attacks that cannot work where a study puts them are refused before the first job starts."""

import shutil
from pathlib import Path

import pytest

from stages.params import study as studies
from tests.params.mini import change, refusal, study, write


def test_an_attacks_class_exists(params: Path) -> None:
    study(params, attacks=["ring_a_bell"])
    change(params, "attacks/ring_a_bell", **{"class": "stages.attacks.ring_a_bell.Ring"})
    assert "no class 'Ring' in stages/attacks/ring_a_bell.py" in refusal(params)


def test_an_attack_needs_a_family_that_it_works_on_and_a_metric_that_sees(params: Path) -> None:
    study(params, backbones=["dit-shapes"], concepts=["red_class"], attacks=["ring_a_bell"])
    assert "ring_a_bell works on unet, mmdit, " in refusal(params)
    study(params, ["drift", "frechet"], attacks=["ring_a_bell"])
    said = refusal(params)
    assert "attacks need a metric that sees the concept (clip_rates, i2p, nudenet, " in said
    assert "rates, resnet50, resnet50_torchvision), got drift, frechet" in said


@pytest.mark.parametrize("field", ["of", "edit"])
def test_a_method_that_another_takes_exists(params: Path, field: str) -> None:
    name, backbone = {"of": ("minimalist_binary", "sd-shapes"), "edit": ("minimalist_released", "flux-shapes")}[field]
    study(params, methods=["none", name], backbones=[backbone])
    studies.load_study("mini", params)
    change(params, f"methods/{name}", **{field: "minimalistt"})
    assert f"methods/{name}.yaml: {field}: no method 'minimalistt'; did you mean minimalist" in refusal(params)


def test_settings_for_a_small_world_are_refused_on_a_real_checkpoint_with_those_that_fit(params: Path) -> None:
    study(params, ["clip_score"], backbones=["sd14"], concepts=["yellow_cross"], methods=["textual_inversion_output"])
    assert refusal(params) == (
        "textual_inversion_output has settings for the small worlds (world: true) and sd14 is a finished checkpoint; "
        "for it: textual_inversion"
    )
    write(params, "adapted/textual_inversion_output", {"sd14": {"steps": 7}})  # meant for that very backbone
    assert studies.load_study("mini", params).runs


def test_an_attack_may_not_take_the_name_of_a_prompt_set(params: Path) -> None:
    shutil.copy(params / "attacks/ring_a_bell.yaml", params / "attacks/retain.yaml")
    study(params, attacks=["retain"])
    assert "attacks/retain.yaml: the study samples prompts of that name, too" in refusal(params)
