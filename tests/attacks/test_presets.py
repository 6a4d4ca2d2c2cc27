"""Every file of params/attacks loads; those of a paper say what the paper says."""

import pytest

from stages.attacks.base import load_attack
from stages.params import load_params, names
from stages.params.check_methods import check_attack


@pytest.mark.parametrize("name", names("attacks"))
def test_every_file_loads_and_is_checked(name):
    assert load_attack(name, "any")
    assert check_attack(name)["class"] == load_params("attacks", name)["class"]


@pytest.mark.parametrize(
    ("name", "says"),
    [  # benchmarks: UnlearnDiffAtk's board, P4D's configuration, TINA's and CCE's protocols
        ("unlearndiffatk", {"tokens": 5, "samples": 50, "iterations": 40, "lr": 0.01, "weight_decay": 0.1}),
        ("unlearndiffatk_objects", {"tokens": 3, "samples": 50, "iterations": 40, "lr": 0.01}),
        ("p4d_n", {"tokens": 16, "every": 0, "steps": 3000, "judge_every": 50, "lr": 0.1, "weight_decay": 0.1}),
        ("p4d_k", {"every": 3, "steps": 3000, "judge_every": 50, "lr": 0.1, "weight_decay": 0.1}),
        ("closed_gate_long", {"tokens": 5, "samples": 50, "iterations": 40, "lr": 0.01, "weight_decay": 0.1}),
        ("tina", {"steps": 50, "iterations": 25, "lr": 0.001}),
        ("concept_inversion", {"images": 25, "steps": 5000, "batch": 4, "accumulate": 4, "vectors": 1}),
        ("concept_inversion_4", {"vectors": 4}),
        ("concept_inversion_8", {"vectors": 8}),
        ("concept_inversion_unrelated", {"pictures_of": "retain"}),
        ("ring_a_bell", {"attempts": 95, "starts": "prompts", "through": "undefended", "strength": 3.0}),
    ],
)
def test_papers_presets(name, says):
    attack = load_attack(name, "any")
    assert {key: getattr(attack, key) for key in says} == says


def test_concept_inversion_has_one_budget_for_all_its_rows():
    """The controls spend what the attack spends: pictures, steps, batch."""
    shared = ("images", "steps", "batch", "lr", "schedule", "initialiser", "flip")
    own, *others = (
        load_attack(name, "any")
        for name in ("concept_inversion", "concept_inversion_unrelated", "concept_inversion_4", "concept_inversion_8")
    )
    for other in others:
        assert [getattr(other, key) for key in shared] == [getattr(own, key) for key in shared]
