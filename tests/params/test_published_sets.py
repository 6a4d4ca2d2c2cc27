"""A study's sets of published prompts: which rows, with which seed, guidance, size and labels."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from stages import prepare
from stages.params.concept import Concept, load_concept
from stages.params.prompt_sources import fetched, load_source
from stages.params.published_sets import PublishedSet, published_rows, read_sets, size_of
from stages.params.study import load_study
from stages.seeds import picture
from tests import ROOT

SOURCE = {"what": "prompts", "hub": "a/b", "path": "f.csv", "license": "MIT"}
DOGS = "prompt,evaluation_seed,evaluation_guidance,sd_image_width,sd_image_height,type\n" + "".join(
    f"a dog {i},{10 + i},{7 + i / 2},{512 + 64 * i},512,{'erased' if i < 4 else 'others'}\n" for i in range(6)
)
COLUMNS = {"prompt": "prompt", "seed": "evaluation_seed", "guidance": "evaluation_guidance"}
SIZES = {"width": "sd_image_width", "height": "sd_image_height"}
DOG = Concept("dog", ("a dog",), ("a pet",), ("a car",), target={"class": "dog"})


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PALIMPSEST_HOME", raising=False)
    add("dogs6", {"rows": 6, "columns": COLUMNS | SIZES})
    parts = {"parts": {"erased": 4, "others": 2}, "shows": ["erased"]}
    add("parted", {"rows": 6, "columns": {"prompt": "prompt", "part": "type"}} | parts)


def add(name: str, content: dict, text: str = DOGS) -> None:
    path = Path(f"params/prompts/{name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(SOURCE | content))
    file = fetched(name, load_source(name))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_rows_keep_what_is_published_of_them() -> None:
    rows = published_rows(PublishedSet(source="dogs6"), DOG)
    assert len(rows) == 6 and [row["index"] for row in rows] == list(range(6))
    given = {"prompt": "a dog 2", "seed": 12, "guidance": 8.0, "width": 640, "height": 512}
    assert rows[2] == given | {"id": 2, "index": 2, "class": "dog"}


def test_what_is_ignored_is_left_to_the_backbone() -> None:
    rows = published_rows(PublishedSet(source="dogs6", ignore=("guidance", "size"), seed=42), DOG)
    assert rows[5] == {"prompt": "a dog 5", "seed": 42, "id": 5, "index": 5, "class": "dog"}


def test_fewer_rows_are_spread_over_all_of_them() -> None:
    assert [row["id"] for row in published_rows(PublishedSet(source="dogs6", rows=3), DOG)] == [0, 2, 4]


def test_a_part_that_does_not_ask_for_the_concept_has_no_label_and_a_seed_by_its_place() -> None:
    assert size_of(PublishedSet(source="parted", part="others")) == 2
    rows = published_rows(PublishedSet(source="parted", part="others"), DOG)
    assert rows == [
        {"prompt": f"a dog {i}", "seed": picture(i, 0), "id": i, "index": i - 4, "class": "", "part": "others"}
        for i in (4, 5)
    ]
    assert all(row["class"] == "dog" for row in published_rows(PublishedSet(source="parted", part="erased"), DOG))


def test_of_several_concepts_a_row_has_the_one_that_its_prompt_names() -> None:
    many = Concept("many", ("dog 1", "dog 12"), ("a pet",), ("a car",), target={"class": ["dog 1", "dog 12", "Dog 3"]})
    add("three", {"rows": 3, "columns": {"prompt": "prompt"}}, "prompt\na dog 1\na dog 12\na dog 3\n")
    assert [row["class"] for row in published_rows(PublishedSet(source="three"), many)] == ["dog 1", "dog 12", "Dog 3"]
    with pytest.raises(ValueError, match=r"dogs6: row 0: the prompt names none of the class of the concept many"):
        published_rows(PublishedSet(source="dogs6"), many)


def test_a_source_that_is_not_fetched_names_the_command() -> None:
    fetched("dogs6", load_source("dogs6")).unlink()
    with pytest.raises(FileNotFoundError, match="bring it with: python -m stages.fetch dogs6"):
        published_rows(PublishedSet(source="dogs6"), DOG)


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("dogs7", None, "no source of prompts 'dogs7'; did you mean dogs6?"),
        ("concept", {"source": "dogs6"}, "published.concept: concept is a set of the concept's own table"),
        ("dogs6", {"part": "erased"}, "part: dogs6 has no part 'erased'"),
        ("parted", {}, "part: parted has several: erased, others; name one"),
        ("dogs6", {"rows": 7}, "rows: dogs6 has 6 of them, got 7"),
        ("dogs6", {"row": 7}, "unknown key 'row'; did you mean rows?"),
        ("dogs6", {"ignore": ["seed"]}, "ignore: Input should be 'guidance' or 'size', got 'seed'"),
    ],
)
def test_a_wrong_set_is_refused_before_anything_runs(name: str, entry: dict | None, message: str) -> None:
    with pytest.raises(ValueError, match=r"params/studies/s\.yaml: published|no source") as caught:
        read_sets({"published": {name: entry}}, "params/studies/s.yaml")
    assert message in str(caught.value)


def test_a_study_draws_published_sets_beside_its_own(caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("backbones/sd-tiny", "concepts/red", "methods/none", "metrics/drift", "studies/smoke"):
        path = Path(f"params/{kind}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((ROOT / f"params/{kind}.yaml").read_text())
    Path("params/concepts/red.yaml").write_text(
        Path("params/concepts/red.yaml").read_text().replace("data/", f"{ROOT}/data/")
    )
    content = {"prompts": {"concept": 4, "retain": 4, "neutral": 0, "alone": 0, "synonym": 0, "implied": 0}}
    content |= {"published": {"dogs6": None, "few": {"source": "dogs6", "rows": 2}}, "seeds": [0], "metrics": ["drift"]}
    content |= {"cells": [{"backbones": ["sd-tiny"], "concepts": ["red"], "methods": ["none"]}]}
    Path("params/studies/mine.yaml").write_text(yaml.safe_dump(content))
    add("dogs6", {"rows": 6, "columns": COLUMNS}, DOGS.replace("a dog 1", load_concept("red").prompts[0]))
    assert prepare.main(["--study", "mine", "--concept", "red", "--out", "sets.json"]) == 0
    sets = json.loads(Path("sets.json").read_text())["sets"]
    assert {name: len(rows) for name, rows in sets.items()} == {"concept": 4, "retain": 4, "dogs6": 6, "few": 2}
    assert "dogs6: 1 of 6 prompts are among those that methods learn from" in caplog.text


def test_a_study_counts_published_sets_and_names_their_sources() -> None:
    root = Path("all")
    shutil.copytree(ROOT / "params", root / "params")
    (root / "data").symlink_to(ROOT / "data")
    smoke = yaml.safe_load((root / "params/studies/smoke.yaml").read_text())
    smoke["published"] = {"ring79": None, "kept": {"source": "celebrity10", "part": "others", "rows": 10}}
    (root / "params/studies/smoke.yaml").write_text(yaml.safe_dump(smoke))
    study = load_study("smoke", root / "params")
    assert (study.prompts["ring79"], study.prompts["kept"]) == (79, 10)
    assert sorted(study.sources) == ["celebrity10", "ring79"]
    (root / "params/studies/smoke.yaml").write_text(yaml.safe_dump(smoke | {"split": "tune"}))
    with pytest.raises(ValueError, match="published: settings are not chosen by prompts that are reported on"):
        load_study("smoke", root / "params")
