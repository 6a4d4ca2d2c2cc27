"""Presets named after a source beside what the source says: field by field, and as they are fitted."""

import re

import pytest
import yaml

from stages.attacks.base import load_attack
from stages.documented.published import PAPERS, Beside, Paper, Said, compare, every_field, presets, read_paper
from stages.params import names
from tests.documented.watching import twin, watch

METHODS, ATTACKS = presets("methods"), presets("attacks")
EVERY = [("methods", name) for name in METHODS] + [("attacks", name) for name in ATTACKS]
COMPARED = {"prediction": {"prediction"}, "clean latent": {"elsewhere"}}
COMPARED["prediction within the picture"] = {"prediction", "elsewhere"}  # by the backbone's own distance
KINDS = {"prompts", "neutral", "retain", "words", "empty", "other"}


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_preset_has_its_table_and_every_departure_its_reason(kind, name):
    paper = read_paper(kind, name)
    table = compare(paper, every_field(kind, name, paper.backbone))
    assert paper.source and table
    assert all(row.source for row in table), [row.what for row in table if not row.source]


@pytest.mark.parametrize("kind", ["methods", "attacks"])
def test_no_table_is_of_a_preset_that_is_gone(kind):
    assert {path.stem for path in (PAPERS / kind).glob("*.yaml")} <= set(names(kind))


def test_a_difference_needs_a_reason_and_a_reason_a_difference():
    paper = Paper(source="x", fields={"lr": Said(value=1e-5)})
    with pytest.raises(ValueError, match="lr: the source has 1e-05, ours 0.1, and nothing says why"):
        compare(paper, {"lr": 0.1})
    assert compare(paper, {"lr": 1e-5})[0].departs == ""
    told = Paper(source="x", fields={"lr": Said(value=1e-5, departs="faster")})
    assert compare(told, {"lr": 0.1})[0].departs == "faster"
    with pytest.raises(ValueError, match="there is no departure"):
        compare(told, {"lr": 1e-5})
    with pytest.raises(ValueError, match="no field 'lr'"):
        compare(paper, {"steps": 1})


def test_what_a_source_does_not_say_stands_as_that():
    paper = Paper(source="x", fields={"lr": Said()}, beside=[Beside(what="data", ours="ours", departs=True)])
    first, second = compare(paper, {"lr": 0.1})
    assert (first.theirs, first.ours, first.departs) == ("not said", "`0.1`", "")
    assert (second.theirs, second.departs) == ("not said", "yes")


def test_a_missing_table_says_what_to_write():
    with pytest.raises(
        FileNotFoundError, match=r"methods/esdd_paper.yaml is missing: what the source of params/methods"
    ):
        read_paper("methods", "esdd_paper")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_does_what_its_table_says(name):
    paper = read_paper("methods", name)
    build, seen = paper.build, watch(name, paper.backbone, **paper.build.changes)
    assert seen.steps == build.steps
    assert seen.prompts == set(build.prompts) <= KINDS
    assert seen.states == set(build.states)
    assert seen.losses == COMPARED.get(build.loss, set())
    assert bool(seen.trainings) == (build.steps > 0)
    for training in seen.trainings:
        for field in ("lr", "optimizer", "weight_decay", "schedule", "clip"):
            if field in paper.fields and paper.fields[field].value != "not said" and not paper.fields[field].departs:
                assert getattr(training, field) == paper.fields[field].value
    check_trained(build.trained, seen, twin(paper.backbone))


def check_trained(trained, seen, network):
    """Exactly the numbers that the patterns name are changed."""
    changed = set(seen.intervention.tensors())
    if trained.weights:
        have = [name for name, _ in network.net.named_parameters()]
        for part, encoder in network.texts.encoders().items():
            have += [f"{part}.{name}" for name, _ in encoder.named_parameters()]
        assert changed == {name for name in have if re.search(trained.weights, name)}
    elif trained.sites:
        assert {name.partition("/")[0] for name in changed} == {
            str(site) for site in network.sites if re.search(trained.sites, str(site))
        }
    elif trained.layers:
        layers = {match[1] for name in changed if (match := re.search(r"(?:unet|net|transformer)\.(.+)\.lora_A", name))}
        assert layers == {name for name, _ in network.net.named_modules() if re.search(trained.layers, name)}
    elif trained.text:
        assert all(name.startswith("text_encoder") for name in changed)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_built_with_what_its_table_says(name):
    attack, paper = load_attack(name, "any"), read_paper("attacks", name)
    for field, said in paper.fields.items():
        if said.value != "not said" and not said.departs:
            assert getattr(attack, field) == said.value


def test_files_say_nothing_twice():
    for path in PAPERS.rglob("*.yaml"):
        what = [each["what"] for each in yaml.safe_load(path.read_text()).get("beside", [])]
        assert len(what) == len(set(what)), path
