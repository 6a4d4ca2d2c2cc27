import pytest
import torch

from stages.params import load_params, names
from stages.params.concept import load_concept
from stages.params.datasets import read_prompts, select
from stages.store.pictures import read_folder
from stages.worlds.scenes import Scenes
from stages.worlds.scenes.concepts import CONCEPTS, concept, new_word
from stages.worlds.scenes.grammar import TEMPLATES
from stages.worlds.scenes.labels import FIGURES, WITHHELD
from stages.worlds.scenes.table import LEARNED, NEW_WORD, clip_rows, new_word_rows, picture_rows
from stages.worlds.scenes.words import FORMS, KINDS, LENGTH, LIKE, SYNONYMS, THINGS, make_tokenizer
from stages.worlds.table import to_csv
from tests import ROOT

DATA = ROOT / "data"
ROWS, CLIPS, WORD = picture_rows(), clip_rows(), new_word_rows()
TARGETS = [{kind: name} for name, kind in CONCEPTS.items()]


@pytest.mark.parametrize(("name", "rows"), [("scenes", ROWS), ("scenes_motion", CLIPS), ("scenes_new_word", WORD)])
def test_the_datasets_of_scenes_are_those_that_its_code_writes(name, rows):
    assert (DATA / f"{name}.csv").read_text() == to_csv(rows)


@pytest.mark.parametrize("name", CONCEPTS)
def test_the_concepts_of_scenes_are_those_that_its_code_writes(name):
    assert load_params("concepts", name) == concept(name)
    assert name in names("concepts")


def test_every_prompt_is_of_its_split_alone_and_in_the_vocabulary():
    tokenizer, splits = make_tokenizer(), {}
    for row in [*ROWS, *CLIPS]:
        for key, text in row.items():
            if key == "prompt" or key.startswith("without_"):
                splits.setdefault(text, set()).add(row["split"])
    assert all(len(split) == 1 for split in splits.values())
    for ids in tokenizer(list(splits)).input_ids:
        assert tokenizer.unk_token_id not in ids and len(ids) <= LENGTH
    heads = {
        split: tuple(t.removesuffix("{}") for t in templates if t != "{}") for split, templates in TEMPLATES.items()
    }
    for text, (split,) in splits.items():
        assert not any(text.startswith(heads[other]) for other in {*heads} - {split})
        assert not set(text.split()) & {*WITHHELD, *(KINDS[name] for name in WITHHELD)}


def test_a_twin_leaves_out_what_its_column_says():
    for row in ROWS:
        for kind in ("colour", "object", "texture", "style", "figure", "place", "background"):
            twin, label = str(row[f"without_{kind}"]), row[kind]
            assert (twin == row["prompt"]) == (label == "")
            if label:
                said = {label, SYNONYMS.get(label), LIKE.get(label), FORMS.get(label), KINDS.get(label)}
                assert not said & set(twin.split()) or kind == "place"
        if row["colour"] and row["object"]:
            assert str(row["without_colour_object"]).split().count("shape") == 1


@pytest.mark.parametrize("target", TARGETS)
def test_every_set_of_every_split_names_the_concept_as_it_says(target):
    table, ((kind, name),) = read_prompts(DATA / "scenes.csv"), target.items()
    for split in TEMPLATES:
        own = table[table["split"] == split]
        concept, neutral, retain, alone, synonym, implied = (
            select(own, target, which) for which in ("concept", "neutral", "retain", "alone", "synonym", "implied")
        )
        assert len(concept) == len(neutral) >= 8 and len(retain) > 200 and len(alone) == 2
        assert all(name in prompt.split() for prompt in [*concept["prompt"], *alone["prompt"]])
        for prompts in (neutral, retain, synonym, implied):
            assert not any(name in prompt.split() for prompt in prompts["prompt"])
        if split == "fit":
            assert synonym.empty and implied.empty  # held out
        else:
            assert (len(synonym) >= 16) == (name in SYNONYMS)
            assert all(SYNONYMS[name] in prompt.split() for prompt in synonym["prompt"])
            assert (len(implied) >= 2) == (kind in ("colour", "object", "figure"))


def test_a_thing_implies_its_colour_and_its_form():
    rows = {str(row["prompt"]): row for row in ROWS if row["set"] == "implied"}
    found = [(row, word) for prompt, row in rows.items() for word in THINGS.values() if prompt.split()[-1] == word]
    assert {word for _, word in found} == {*THINGS.values()}
    for row, word in found:
        assert THINGS[row["colour"], row["object"]] == word
        assert FORMS[row["object"]] in row["without_colour"] and LIKE[row["colour"]] in row["without_object"]


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concept_is_learned_from_prompts_to_fit_on(name):
    concept, heads = load_concept(name), tuple(t.removesuffix("{}") for t in (*TEMPLATES["tune"], *TEMPLATES["test"]))
    measured = {row["prompt"] for row in ROWS if row["split"] != "fit"}
    assert len(concept.prompts) == len(concept.neutral) == 8 and len(set(concept.retain)) == 12
    assert not {*concept.prompts, *concept.neutral, *concept.retain} & measured
    assert not any(text.startswith(heads) for text in (*concept.prompts, *concept.neutral, *concept.retain))
    assert all(name in text.split() for text in concept.prompts)
    assert not any(name in text.split() for text in (*concept.neutral, *concept.retain))
    tokenizer = make_tokenizer()
    assert not any(tokenizer.unk_token_id in ids for ids in tokenizer([*concept.prompts, *concept.retain]).input_ids)


def test_a_new_word_is_for_a_figure_that_no_backbone_was_shown():
    table, target = read_prompts(DATA / "scenes_new_word.csv"), {"figure": LEARNED}
    learned, retain = select(table, target, "concept"), select(table, target, "retain")
    assert load_params("concepts", LEARNED) == new_word() and LEARNED in WITHHELD
    assert len(learned) == 8 * 7 and all(NEW_WORD in prompt.split() for prompt in learned["prompt"])
    assert not any({LEARNED, NEW_WORD} & set(prompt.split()) for prompt in retain["prompt"])
    assert set(table["split"]) == {"tune", "test"} and len(retain) > 200


def test_the_pictures_of_the_new_word_are_the_worlds():
    figure = torch.full((8,), FIGURES.index(LEARNED))
    labels = {"figure": figure, "background": torch.arange(8) % 3}
    drawn = (255 * Scenes().render(labels, torch.Generator().manual_seed(9))).round()
    assert (255 * read_folder(DATA / LEARNED) - drawn).abs().max() <= 1
