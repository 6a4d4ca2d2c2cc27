from itertools import chain

import pytest

from stages.worlds.scenes import Scenes
from stages.worlds.scenes.grammar import TEMPLATES, Said, every_template
from stages.worlds.scenes.labels import COLOURS, DEFAULTS, FIGURES, LABELS, OBJECTS, WITHHELD
from stages.worlds.scenes.words import FORMS, IDS, KINDS, LENGTH, LIKE, SYNONYMS, THINGS, WORDS, make_tokenizer
from stages.worlds.scenes.world import named

WORLD = Scenes(withheld=())
BATCH = WORLD.sample(6000, 11)
ROWS = named(BATCH.labels)
MEANING = {  # word -> the names that it says or implies
    **{name: {name} for name in (*COLOURS, *OBJECTS, *FIGURES, *LABELS["texture"], *LABELS["style"])},
    **{word: {name} for name, word in (*SYNONYMS.items(), *LIKE.items(), *FORMS.items(), *KINDS.items())},
    **{word: set(names) for names, word in THINGS.items()},
}


def test_captions_are_true_to_the_labels():
    for caption, row in zip(BATCH.captions, ROWS, strict=True):
        for word in caption.split():
            assert MEANING.get(word, set()) <= set(row.values()), (caption, row)


def test_what_is_not_the_default_is_said():
    for caption, row in zip(BATCH.captions, ROWS, strict=True):
        for kind in ("texture", "style"):
            name = row.get(kind, DEFAULTS[kind])
            assert not caption or name == DEFAULTS[kind] or {name, SYNONYMS[name]} & set(caption.split())
        if caption and row["place"] != "middle":
            stands = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
            pair = "other_object" in row
            assert (row["place"] if pair else stands[row["place"]]) in caption.split()


def test_shares_of_what_captions_leave_out():
    single = [
        (caption.split(), row)
        for caption, row in zip(BATCH.captions, ROWS, strict=True)
        if "object" in row and "other_object" not in row
    ]
    told = [set().union(*(MEANING.get(word, set()) for word in said)) for said, _ in single]
    for kind, low, high in (("colour", 0.82, 0.90), ("object", 0.83, 0.91)):
        share = sum(row[kind] in names for names, (_, row) in zip(told, single, strict=True)) / len(single)
        assert low < share < high
    assert 0.03 < sum(caption == "" for caption in BATCH.captions) / len(BATCH.captions) < 0.07
    assert all(any(word in caption.split() for caption in BATCH.captions) for word in MEANING)


def test_a_left_out_colour_may_be_any():
    texts = zip(BATCH.captions, ROWS, strict=True)
    found = {row["colour"] for caption, row in texts if "colour" in row and caption.endswith(" star")}
    assert found == {*COLOURS}


def test_no_template_is_of_two_splits_and_captions_are_of_all():
    every = [*chain(*TEMPLATES.values())]
    assert set(TEMPLATES) == {"fit", "tune", "test"} and len(set(every)) == len(every)
    assert every_template() == tuple(every)
    heads = [template.removesuffix("{}") for template in every if template != "{}"]
    for head in heads:
        assert any(caption.startswith(head) for caption in BATCH.captions)
        assert not any(head != other and head.startswith(other) for other in heads)


def test_no_word_means_two_things():
    said = [*SYNONYMS.values(), *LIKE.values(), *FORMS.values(), *THINGS.values(), *KINDS.values(), *SYNONYMS, *KINDS]
    assert len(set(said)) == len(said)
    assert set(SYNONYMS) == {*COLOURS, *OBJECTS, *LABELS["texture"], *LABELS["style"], *LABELS["background"]}
    assert set(LIKE) == {*COLOURS} and set(FORMS) == {*OBJECTS} and set(KINDS) == {*FIGURES}
    for implying in (*LIKE.values(), *FORMS.values(), *THINGS.values(), *KINDS.values()):
        assert not any(name in implying for name in (*COLOURS, *OBJECTS, *FIGURES))


def test_withheld_figures_are_not_spoken_of():
    spoken = {word for caption in Scenes().sample(3000, 0).captions for word in caption.split()}
    assert not spoken & {*WITHHELD, *(KINDS[name] for name in WITHHELD)} and KINDS["plonk"] in spoken


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (Said(), "a shape"),
        (Said(colour="orange"), "an orange shape"),
        (Said(texture="striped", colour="red", noun="star", place="left", background="sandy"), None),
        (Said(noun="star", like="grass", style="neon"), "a star coloured like grass in neon style"),
        (Said(noun="tivvy", place="above"), "tivvy at the top"),
        (Said(noun="robot", direction="left"), "a robot moving left"),
        (Said("", "red", "circle", place="left", other=Said("", "blue", "square"), background="light"), None),
    ],
)
def test_a_description_reads_in_a_natural_order(said, text):
    known = {
        "striped": "a striped red star on the left of a sandy background",
        "": "a red circle left of a blue square on a light background",
    }
    assert str(said) == (text or known[said.texture])


def test_every_caption_is_in_the_vocabulary_and_fits():
    tokenizer = make_tokenizer()
    texts = {*BATCH.captions, *WORLD.clips(2000, 3, frames=1).captions}
    longest = Said("", "", "star", "grass", "outline", "middle", None, "sandy")
    for row in tokenizer([*texts, f"a painting of {longest}"]).input_ids:
        assert len(row) <= LENGTH and tokenizer.unk_token_id not in row


def test_ids_are_unique_and_the_end_token_is_the_highest(tmp_path):
    tokenizer = make_tokenizer()
    assert sorted(tokenizer.get_vocab().values()) == list(range(IDS))
    assert tokenizer.eos_token_id == IDS - 1 and len(set(WORDS)) == len(WORDS)
    assert sum(word.startswith("<spare") for word in tokenizer.get_vocab()) >= 16
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path)("a red star").input_ids == tokenizer("a red star").input_ids
