"""Concepts in words: natural prompts, twins without the concept, and nothing both learned from and measured."""

import csv
import io

import pytest

from stages.door.wording import LEADS, WORDINGS, concept_of, metric_of, others, table_of, with_article


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("kind", WORDINGS)
def test_prompts_show_the_concept_and_twins_do_not(kind: str) -> None:
    concept = concept_of("zebra", kind)
    assert all("zebra" in prompt for prompt in concept["prompts"])
    assert not any("zebra" in prompt for prompt in [*concept["neutral"], *concept["retain"]])
    assert len(concept["neutral"]) == len(concept["prompts"]) == len(set(concept["prompts"]))
    assert all(twin.strip() == twin and "  " not in twin and not twin.endswith(LEADS) for twin in concept["neutral"])
    assert not any("{" in prompt for prompts in (concept["prompts"], concept["neutral"]) for prompt in prompts)


@pytest.mark.parametrize("kind", WORDINGS)
def test_no_prompt_is_both_learned_from_and_measured(kind: str) -> None:
    concept, label = concept_of("zebra", kind, ("striped horse",)), WORDINGS[kind].label
    table = rows(table_of("zebra", kind, ("striped horse",)))
    assert not {row["prompt"] for row in table} & {*concept["prompts"], *concept["retain"], *concept["neutral"]}
    assert {row["set"] for row in table} == {"full", "synonym", "alone", "unrelated"}
    assert all(row[label] == "zebra" for row in table if row["set"] in ("synonym", "alone"))
    assert len({row["id"] for row in table}) == len(table)


def test_words_stand_as_they_are_said() -> None:
    assert concept_of("owl", "object", neutral="a bird")["prompts"][0] == "a photo of an owl"
    assert concept_of("owl", "object", neutral="a bird")["neutral"][0] == "a photo of a bird"
    assert concept_of("Van Gogh", "style")["neutral"][:2] == ["a painting", "a house"]
    assert concept_of("orange", "attribute")["prompts"][:2] == ["a photo of an orange car", "an orange shirt"]
    assert concept_of("orange", "attribute")["neutral"][:2] == ["a photo of a car", "a shirt"]
    assert concept_of("nudity", "sensitive")["neutral"][0] == "a person" and concept_of("x", "sensitive")["sensitive"]
    assert [with_article(word) for word in ("cat", "Superman", "the moon")] == ["a cat", "Superman", "the moon"]


def test_the_concept_is_not_among_the_others_under_any_name() -> None:
    assert "cat" not in others(WORDINGS["object"], "cat") and "dog" not in others(WORDINGS["object"], "cat", ("dog",))
    assert "Claude Monet" not in others(WORDINGS["style"], "Monet")
    assert metric_of("cat", "object", "a/clip")["choices"]["class"][0] == "cat"
