"""What methods say that they read of the unedited backbone's runs, by their files and their class's source."""

from pathlib import Path

import pytest

from stages.params import method_params, names
from stages.params.check_methods import check_method_on
from stages.params.kept import enough, kept_states, most
from stages.params.load import load_params
from stages.params.study import fitting

REAL = [name for name in names("backbones") if not load_params("backbones", name).get("world")]
FREE = (  # nothing of a run is read
    *("uce", "rece", "speed", "casteer", "activation_transport"),
    *("conditioned_transport", "random_weights", "word_filter", "sld_max", "textual_inversion"),
    *("esd_x", "esd_u", "receler", "eap"),  # states of the network in training
    "concept_ablation",  # its own pictures of anchors
)


@pytest.mark.parametrize("name", FREE)
def test_what_needs_no_trajectories_says_so(name):
    assert kept_states(method_params(name, "flux-dev")) is None


@pytest.mark.parametrize(
    ("name", "backbone", "states"),
    [
        ("minimalist", "flux-dev", "ends"),
        ("concept_ablation@states=noised", "sd14", "final"),
        ("t2vunlearning_ablation", "cogvideox-2b", "final"),
        ("t2vunlearning", "cogvideox-2b", "all"),
        ("mace", "sd14", "final"),
        ("eap", "infinity-2b", "all"),
        ("esd_x@preserve=0.1", "sd14", "all"),
        ("circuit_breaker", "sd14", "all"),
    ],
)
def test_the_rest_says_which_states_it_reads(name, backbone, states):
    assert kept_states(method_params(name, backbone)) == states


def test_the_most_of_several_needs_serves_all():
    assert most(["final", None, "ends"]) == "ends" and most([None]) is None and most([]) is None
    assert enough("all", "ends") and enough("ends", "ends") and not enough("final", "ends")


@pytest.mark.parametrize("name", ["uce", "rece", "speed", "casteer", "random_weights", "random_direction"])
def test_a_closed_form_is_fitted_where_it_is_sampled_by_every_file(name):
    files = [each for each in names("methods") if load_params("methods", each)["class"] == class_of(name)]
    assert files and all(load_params("methods", each).get("trained") is False for each in files)


def class_of(name):
    return load_params("methods", name)["class"]


def test_all_leaves_out_what_refuses_there():
    assert {name for name in REAL if "negative_prompt" not in fitting(name, "dog")} == {
        "flux-dev",
        "flux-schnell",
        "sdxl-turbo",
    }
    with pytest.raises(
        ValueError, match="negative_prompt cannot work on flux-dev: it is told its guidance and has no "
    ):
        check_method_on("negative_prompt", "flux-dev")
    check_method_on("negative_prompt", "sd14")
    assert "esd_u" in fitting("sd14", "dog") and "esd_u" not in fitting("flux-schnell", "dog")
    with pytest.raises(ValueError, match="esd_u cannot work on flux-dev: it trains 9.3 of 11.9 billion weights"):
        check_method_on("esd_u", "flux-dev")


def test_a_backbone_that_is_like_another_is_refused_as_well(tmp_path):
    for kind, name, text in (
        ("backbones", "mine", "like: flux-dev\npath: mine\n"),
        ("backbones", "flux-dev", Path("params/backbones/flux-dev.yaml").read_text()),
        ("methods", "negative_prompt", Path("params/methods/negative_prompt.yaml").read_text()),
    ):
        (tmp_path / "params" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "params" / kind / f"{name}.yaml").write_text(text)
    with pytest.raises(ValueError, match="negative_prompt cannot work on mine: it is told its guidance"):
        check_method_on("negative_prompt", "mine", tmp_path / "params")
