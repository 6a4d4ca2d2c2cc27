"""What is measured was not learned from: by split of the tables, and refused before anything runs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from stages import seeds
from stages.params import names
from stages.params import study as studies
from stages.params.asked import asked
from stages.params.check import check_concept
from stages.params.concept import Concept, load_concept
from stages.params.datasets import SETS, read_prompts
from stages.params.learning import Measured, check_apart, every_text
from stages.params.protocol import load_protocol
from stages.params.relations import RELATIONS
from stages.seeds import Purpose
from tests import ROOT
from tests.params.mini import STUDY, change, refusal, write


@pytest.mark.parametrize("name", names("concepts"))
@pytest.mark.parametrize("split", ["tune", "test"])
def test_no_measured_prompt_of_a_concept_of_the_project_is_learned_from(name: str, split: str) -> None:
    """Not from its file, and not from the tables that methods read; retained ones neither."""
    concept = load_concept(name)
    measured = Measured.of(concept, SETS, split=split)
    check_apart(concept, measured)
    assert len(measured.sets) >= 3
    measured.refuse(concept.retain, "retain")
    for folder in ("fitting", "anchors"):
        if (path := ROOT / f"data/{folder}/{name}.csv").is_file():
            measured.refuse(every_text(path), str(path))


def test_a_prompt_that_is_learned_from_and_measured_is_refused_with_the_way_out(params: Path) -> None:
    shown = [f"a drawing of a red {shape}" for shape in ("circle", "square", "triangle", "cross")]
    change(params, "concepts/red", prompts=["a red shape", *shown], neutral=["a shape"])
    assert refusal(params) == (
        "params/concepts/red.yaml: prompts, neutral: 'a drawing of a red circle', 'a drawing of a red cross', "
        "'a drawing of a red square' and 1 more: measured on data/shapes_colors.csv, too (concept); give those rows "
        "split: fit there, or take the prompts out here"
    )


@pytest.mark.parametrize(
    ("key", "prompt", "where"),
    [
        ("neutral", "a drawing of a circle", "(neutral)"),
        ("prompts", "a drawing of a red shape", "(alone)"),
        ("prompts", "a drawing of a scarlet disc", "(synonym)"),
        ("prompts", "a drawing of a blue circle", "(retain)"),
        ("retain", "a drawing of a red circle", "(concept)"),
    ],
)
def test_every_set_is_looked_at(params: Path, key: str, prompt: str, where: str) -> None:
    change(params, "concepts/red", **{"prompts": ["a red shape"], "neutral": ["a shape"], key: [prompt]})
    said = refusal(params)
    assert repr(prompt) in said and where in said


def test_a_template_that_makes_a_measured_prompt_of_a_learned_one_is_refused(params: Path) -> None:
    change(params, "methods/esd", templates=["a drawing of {}"])
    change(params, "concepts/red", prompts=["a red circle"], neutral=["a circle"])
    assert "esd.yaml: templates: 'a drawing of a red circle', 'a drawing of a circle': measured" in refusal(params)


def test_json_of_lists_is_looked_into(params: Path) -> None:
    path = params.parent / "data/breaker.json"
    path.write_text(
        json.dumps({"red_prompts": [{"prompt": "a drawing of a red circle"}], "red_sanitized_prompts": ["a cup"]})
    )
    change(params, "tuned/circuit_breaker", shapes={"sd": {"data": "data/breaker.json"}})
    change(params, "studies/mini", cells=[STUDY["cells"][0] | {"methods": ["circuit_breaker"]}])
    assert "circuit_breaker.yaml: data: data/breaker.json: 'a drawing of a red circle': measured" in refusal(params)


def test_published_noise_that_a_run_learns_from_is_refused(params: Path) -> None:
    table = params.parent / "data/mine.csv"
    fit = seeds.seed_of(Purpose.POOL, 1, 5)
    rows = "0,full,test,a red cup,red,a cup,{}\n1,full,test,a blue cup,blue,a cup,9\n"
    change(params, "concepts/red", dataset="data/mine.csv", target={"colour": "red"})
    header = "id,set,split,prompt,colour,without_colour,seed\n"
    table.write_text(header + rows.format(fit))
    assert f"data/mine.csv: id 0: seed {fit} is noise that methods learn from in runs of seed 1; take" in refusal(
        params
    )
    for other in (7, seeds.seed_of(Purpose.POOL, 2, 5), seeds.seed_of(Purpose.PICTURE, 1, 5)):
        table.write_text(header + rows.format(other))
        studies.load_study("mini", params)


def test_a_study_is_of_one_split(params: Path) -> None:
    assert studies.load_study("mini", params).split == "test"
    change(params, "studies/mini", split="tune")
    assert studies.load_study("mini", params).split == "tune"
    change(params, "studies/mini", split="fit")
    assert "split: 'fit' is not one of ['tune', 'test']" in refusal(params)


def test_what_is_reported_is_not_tuned_on(params: Path) -> None:
    change(params, "studies/mini", split="tune")
    shutil.copy(params / "concepts/red.yaml", params / "concepts/green.yaml")
    text = (params / "concepts/green.yaml").read_text().replace("name: red", "name: green")
    (params / "concepts/green.yaml").write_text(text)
    change(params, "concepts/green", target={"colour": "green"}, prompts=["a green shape"], neutral=["a shape"])
    change(params, "studies/mini", cells=[STUDY["cells"][0] | {"concepts": ["green"]}])
    assert "studies/mini.yaml: split: tune: green is a concept to report; tune on one of purple, heart" in refusal(
        params
    )
    change(params, "studies/mini", split="test")
    change(params, "concepts/green", retain=["a red circle"])
    studies.load_study("mini", params)


def test_a_table_without_rows_to_tune_on_is_refused_for_it(params: Path) -> None:
    (params.parent / "data/mine.csv").write_text("id,set,prompt,colour,without_colour\n0,full,a red cup,red,a cup\n")
    change(params, "concepts/red", dataset="data/mine.csv")
    with pytest.raises(ValueError, match="prompts for {'colour': 'red'} to tune on; give rows of it split: tune"):
        check_concept("red", ["concept"], params, "tune")
    check_concept("red", ["concept"], params)


def test_a_row_without_a_split_beside_others_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    rows = [{"id": 0, "set": "full", "split": "fit", "prompt": "a"}, {"id": 1, "set": "full", "prompt": "b"}]
    path.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="column split: id 1 has none"):
        read_prompts(path)


HEADER = "id,set,split,prompt,colour,shape,without_colour,without_shape,without_colour_shape\n"


def pairs(tmp_path: Path, fit: list[str], *, target: dict) -> Concept:
    """A concept whose table has a row to fit and one to test of each colour and shape, and an unrelated one."""
    said = [(colour, shape) for colour in ("red", "blue", "grey") for shape in ("cup", "hat", "box")]
    rows = [f"{{}},full,fit,a {c} {s},{c},{s},x,x,x" for c, s in said] + [
        f"{{}},full,test,my {c} {s},{c},{s},x,x,x" for c, s in said
    ]
    lines = [row.format(i) for i, row in enumerate([*rows, "{},unrelated,test,a tree,,,x,x,x"])]
    (tmp_path / "t.csv").write_text(HEADER + "\n".join(lines) + "\n")
    prompts = ("a red cup",) if len(target) == 1 else ("a cup of red",)
    return Concept("red", prompts, ("a cup",), tuple(fit), dataset=str(tmp_path / "t.csv"), target=target)


def test_retained_rows_are_seen_near_or_far(tmp_path: Path) -> None:
    """The same thing in other words is seen; what shares the cup that red was erased from is near."""
    rows = asked(pairs(tmp_path, ["a blue hat", "a blue cup"], target={"colour": "red"}), "retain", 30)
    found = {relation: {row["prompt"] for row in rows if row["relation"] == relation} for relation in RELATIONS}
    assert found["seen"] == {"my blue hat", "my blue cup"}
    assert found["near"] == {"my grey cup"}
    assert found["far"] == {"my blue box", "my grey hat", "my grey box", "a tree"}
    counts = [sum(row["relation"] == relation for row in rows) for relation in RELATIONS]
    assert counts == [10, 10, 10] and [row["index"] for row in rows] == list(range(30))
    assert len({(row["prompt"], row["seed"]) for row in rows}) == 30
    assert len({row["relation"] for row in rows[:3]}) == 3, "they take turns"


def test_a_retained_prompt_that_stands_in_no_row_is_known_by_the_values_that_it_names(tmp_path: Path) -> None:
    """Nothing that methods retain in other words counts as held out."""
    rows = asked(pairs(tmp_path, ["see this BLUE hat", "a thing"], target={"colour": "red"}), "retain", 30)
    assert {row["prompt"] for row in rows if row["relation"] == "seen"} == {"my blue hat"}
    pictures = asked(load_concept("ten_pairs"), "retain", 12)
    assert {row["relation"] for row in pictures} == {"seen"}


def test_of_a_concept_of_two_labels_what_has_one_of_them_is_near(tmp_path: Path) -> None:
    rows = asked(pairs(tmp_path, ["a blue hat"], target={"colour": "red", "shape": "cup"}), "retain", 9)
    near = {row["prompt"] for row in rows if row["relation"] == "near"}
    assert near <= {"my red hat", "my red box", "my blue cup", "my grey cup"} and len(near) == 3


def test_relations_that_a_table_lacks_leave_their_share_to_the_others(tmp_path: Path) -> None:
    every = [f"a {c} {s}" for c in ("blue", "grey") for s in ("cup", "hat", "box")]
    rows = asked(pairs(tmp_path, every, target={"colour": "red"}), "retain", 8)
    assert [sum(row["relation"] == which for row in rows) for which in RELATIONS] == [4, 0, 4]


@pytest.mark.parametrize("name", load_protocol().concepts.report)
def test_what_is_reported_has_retained_rows_of_each_relation(name: str) -> None:
    rows = asked(load_concept(str(name)), "retain", 96)
    assert [sum(row["relation"] == which for row in rows) for which in RELATIONS] == [32, 32, 32]
    assert {row["prompt"] for row in rows}.isdisjoint(load_concept(str(name)).retain)


def test_the_protocol_is_whole(params: Path) -> None:
    protocol = load_protocol()
    assert protocol.version >= 1 and protocol.trials == 8 and protocol.backbone_seeds.report == (1, 2)
    change(params, "protocol", trails=8)
    with pytest.raises(ValueError, match="protocol.yaml: trails: Extra inputs are not permitted"):
        load_protocol(params)
    content = yaml.safe_load((ROOT / "params/protocol.yaml").read_text())
    write(params, "protocol", content | {"concepts": {"tune": ["red"], "report": ["red"]}})
    with pytest.raises(ValueError, match="red is to be tuned on and to be reported"):
        load_protocol(params)
    (params / "protocol.yaml").unlink()
    with pytest.raises(ValueError, match="protocol.yaml is missing"):
        load_protocol(params)


def test_no_tuned_preset_names_a_concept_to_report() -> None:
    """Presets of the small worlds, whose settings are tuned, and files of tuned settings, comments and all."""
    reported = set(map(str, load_protocol().concepts.report))
    for path in [*(ROOT / "params/methods").glob("*.yaml"), *(ROOT / "params/tuned").glob("**/*.yaml")]:
        text = path.read_text()
        if path.parent.name != "methods" or (yaml.safe_load(text) or {}).get("world"):
            assert not reported & set(words(text)), path


def words(text: str) -> list[str]:
    return "".join(sign if sign.isalnum() or sign == "_" else " " for sign in text).split()
