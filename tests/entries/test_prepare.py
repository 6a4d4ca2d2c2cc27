"""No picture is asked for twice, every row has seeds of its own, and prompts longer than an encoder are told."""

import json
import logging
import math
from pathlib import Path

import pytest

from stages import prepare, sample, seeds
from stages.backbones.text.cut import cut, cut_prompts
from stages.params.asked import asked, has_asked
from stages.params.concept import Concept, load_concept
from stages.params.datasets import read_prompts, select
from stages.prepare import least_tokens
from stages.store.samples import read_sets
from tests.backbones.tiny_infinity import make

HEADER = "id,set,prompt,class,without_class,seed\n"


def concept(folder, lines):
    path = folder / "t.csv"
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return Concept("dog", ("a dog",), ("a pet",), ("a car",), dataset=str(path), target={"class": "dog"})


@pytest.mark.parametrize("n", [1, 15, 16, 40, 96])
def test_few_prompts_with_consecutive_seeds_give_as_many_different_pictures(tmp_path, n):
    lines = [f"{3 * s + p},full,prompt {p} dog,dog,prompt {p},{s}" for s in range(5) for p in range(3)]
    chosen = asked(concept(tmp_path, lines), "concept", n)
    pairs = [(row["prompt"], row["seed"]) for row in chosen]
    assert len(set(pairs)) == n and [row["index"] for row in chosen] == list(range(n))
    if n == 15:
        assert set(pairs) == {(f"prompt {p} dog", s) for s in range(5) for p in range(3)}


def test_a_row_that_stands_twice_and_the_last_seed_go_on_elsewhere(tmp_path):
    lines = ["0,full,a dog,dog,a pet,4", "1,full,a dog,dog,a pet,4", f"2,full,my dog,dog,my pet,{2**32 - 1}"]
    chosen = asked(concept(tmp_path, lines), "concept", 6)
    pairs = [(row["prompt"], row["seed"]) for row in chosen]
    assert len(set(pairs)) == 6
    assert pairs[0] == ("a dog", 4) and pairs[4] == ("my dog", 2**32 - 1), "given seeds come first"
    assert all(seed // seeds.GIVEN == seeds.Purpose.PICTURE for _, seed in (*pairs[1:4], pairs[5]))


@pytest.mark.parametrize("name", ["red", "circle", "dog", "red_clip", "red_to_blue"])
@pytest.mark.parametrize("n", [1, 7, 96, 200])
def test_rows_without_seeds_are_spread_over_the_table_and_get_their_own(name, n):
    shipped = load_concept(name)
    for which in ("concept", "neutral"):
        records = select(read_prompts(shipped.dataset), shipped.target, which, "test").to_dict("records")
        repeats = math.ceil(n / len(records))
        many = [row | {"seed": seeds.picture(row["id"], k)} for row in records for k in range(repeats)]
        assert asked(shipped, which, n) == [many[i * len(many) // n] | {"index": i} for i in range(n)]
        assert len({row["seed"] for row in many}) == len(many)


@pytest.mark.parametrize("name", ["red", "circle", "dog", "red_clip", "red_to_blue", "ten_pairs", "yellow_cross"])
def test_what_settings_are_chosen_by_is_neither_reported_nor_learned_from(name):
    """No prompt and no noise is shared; what may be fitted on stands in neither."""
    shipped = load_concept(name)
    fit = {
        prompt
        for which in ("concept", "neutral", "retain")
        for prompt in select(read_prompts(shipped.dataset), shipped.target, which, "fit")["prompt"]
    }
    for which in ("concept", "retain"):
        tune, test = (asked(shipped, which, 96, split) for split in ("tune", "test"))
        prompts = [{row["prompt"] for row in rows} for rows in (tune, test)]
        assert all(prompts) and not prompts[0] & prompts[1] and not (prompts[0] | prompts[1]) & fit
        assert not {row["seed"] for row in tune} & {row["seed"] for row in test}
        assert {row["seed"] // seeds.GIVEN for row in tune} == {seeds.Purpose.TUNING}
        assert {row["seed"] // seeds.GIVEN for row in test} == {seeds.Purpose.PICTURE}


def test_a_table_without_splits_is_reported_and_not_tuned_on(tmp_path):
    told = concept(tmp_path, ["0,full,a dog,dog,a pet,1"])
    assert asked(told, "concept", 1)[0]["seed"] == 1
    with pytest.raises(ValueError, match="no concept prompts for {'class': 'dog'} to tune on"):
        asked(told, "concept", 1, "tune")


def test_a_published_seed_is_kept_to_report_and_never_tuned_on(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "id,set,split,prompt,class,without_class,seed\n0,full,test,a dog,dog,a pet,7\n1,full,tune,my dog,dog,my pet,7\n"
    )
    told = Concept("dog", ("a dog",), ("a pet",), ("a car",), dataset=str(path), target={"class": "dog"})
    assert [row["seed"] for row in asked(told, "concept", 1)] == [7]
    assert asked(told, "concept", 1, "tune")[0]["seed"] // seeds.GIVEN == seeds.Purpose.TUNING


def test_a_prompt_and_its_neutral_twin_start_from_the_same_noise():
    shipped = load_concept("red")
    shows, neutral = (asked(shipped, which, 24) for which in ("concept", "neutral"))
    assert [row["seed"] for row in shows] == [row["seed"] for row in neutral]
    assert [row["prompt"] for row in shows] != [row["prompt"] for row in neutral]


def test_long_prompts_are_told_without_a_model(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    lines = [f"0,full,a dog {'very ' * 80},dog,x,0", "1,full,a dog,dog,x,100"]
    made = concept(tmp_path, lines)
    for kind, name, text in (
        (
            "concepts",
            "dog",
            f"{{dataset: {made.dataset}, target: {{class: dog}}, prompts: [a], neutral: [b], retain: [c]}}",
        ),
        ("studies", "s", "{prompts: {concept: 2}}"),
    ):
        path = Path("params", kind, f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with caplog.at_level(logging.WARNING):
        assert prepare.main(["--study", "s", "--concept", "dog", "--out", "p.json"]) == 0
    assert "concept: 1 of 2 prompts have more than 75 words and signs" in caplog.text
    assert least_tokens("it's 12 dogs, 一只狗!") == 3 + 2 + 1 + 1 + 3 + 1


@pytest.mark.parametrize("family", ["unet", "xl", "sd3", "flux-dev", "wan", "dit"])
def test_tokens_beyond_the_last_one_that_is_read_are_counted(family, made):
    backbone = made(family)
    lost = cut(backbone, ["a red circle", "", "a red circle " * 60])
    assert lost[:2] == [0, 0] and (lost[2] > 0) == bool(backbone.texts.tokenizers)


def test_infinity_counts_them_too():
    assert cut(make(), ["a red circle", "red " * 200])[0] == 0 < cut(make(), ["red " * 200])[0]


def test_what_is_cut_is_told_once_per_set(made, caplog):
    long = "a red circle " * 60
    sets = {
        "concept": [{"prompt": long, "seed": 0}, {"prompt": long, "seed": 1}, {"prompt": "a red circle", "seed": 0}],
        "retain": [{"prompt": "a blue circle", "seed": 0}],
    }
    with caplog.at_level(logging.WARNING):
        assert cut_prompts(made("unet"), sets) == {"concept": 1, "retain": 0}
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("concept: 1 of 2 prompts are longer than tiny reads; what follows changes nothing")


def test_the_record_of_samples_has_the_number(project):
    Path("params/methods/none.yaml").write_text("class: stages.methods.none.NoMethod\n")
    sets = {"concept": [{"index": 0, "prompt": "a red circle " * 60, "seed": 0}]}
    Path("sets.json").write_text(json.dumps({"sets": sets}))
    run = ["--backbone", "tiny", "--concept", "red", "--method", "none", "--seed", "0"]
    assert sample.main([*run, "--prompts", "sets.json", "--out", "out"]) == 0
    assert json.loads(Path("out/record-sample.json").read_text())["notes"]["cut_prompts"] == {"concept": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "seed": 2**64}, "row 1: seed must be 0 to 2..64 - 1, got 18446744073709551616"),
        ({"prompt": "a", "seed": -1}, "row 1: seed must be 0 to"),
        ({"prompt": "a", "seed": "7"}, "row 1: seed must be 0 to"),
        ({"prompt": 3, "seed": 0}, "row 1: prompt must be a text"),
        ({"seed": 0}, "not prompt sets"),
    ],
)
def test_sets_with_what_cannot_be_sampled_are_refused(tmp_path, row, message):
    (tmp_path / "sets.json").write_text(json.dumps({"sets": {"concept": [row]}}))
    with pytest.raises(ValueError, match=rf"sets\.json: .*{message}"):
        read_sets(tmp_path / "sets.json")


def test_a_set_that_a_study_does_not_name_is_empty_if_the_dataset_has_no_such_prompts(tmp_path: Path) -> None:
    told = concept(tmp_path, ["0,full,a dog,dog,a pet,1"])
    assert not has_asked(told, "synonym")
    assert has_asked(told, "neutral")
    with pytest.raises(ValueError, match="no alone prompts"):
        asked(told, "alone", 1)
