from transformers import AutoTokenizer

from stages.params.datasets import read_prompts
from stages.worlds.shapes import PALETTE, Shapes
from stages.worlds.words import LENGTH, SYNONYMS, WORDS, make_tokenizer
from tests import ROOT

DATA = ROOT / "data"


def test_every_caption_and_prompt_of_the_world_is_in_the_vocabulary_and_fits():
    tokenizer = make_tokenizer()
    texts = Shapes().sample(500, 0).captions + Shapes().clips(500, 0, frames=2).captions
    for name in ("shapes_colors", "shapes_motion"):
        table = read_prompts(DATA / f"{name}.csv")
        texts += [
            text for column in table.columns if "prompt" in column or "without" in column for text in table[column]
        ]
    for row in tokenizer(texts).input_ids:
        assert len(row) <= LENGTH
        assert tokenizer.unk_token_id not in row


def test_ids_are_unique_and_the_end_token_is_the_highest():
    tokenizer = make_tokenizer()
    ids = sorted(tokenizer.get_vocab().values())
    assert ids == list(range(64))
    assert tokenizer.eos_token_id == 63 and len(set(WORDS)) == len(WORDS)
    assert {*SYNONYMS, *SYNONYMS.values(), *PALETTE} <= set(WORDS)


def test_a_prompt_is_framed_padded_lowered_and_cut():
    tokenizer = make_tokenizer()
    (ids,) = tokenizer(["A Red zebra"], padding="max_length").input_ids
    words = tokenizer.convert_ids_to_tokens(ids)
    assert words == ["<bos>", "a", "red", "<unk>", "<eos>"] + ["<pad>"] * (LENGTH - 5)
    (long,) = tokenizer(["red " * 30], truncation=True).input_ids
    assert len(long) == LENGTH and long[-1] == tokenizer.eos_token_id


def test_save_and_load_give_the_same_ids(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = ["a photo of a red circle", ""]
    assert loaded(text, padding="max_length").input_ids == tokenizer(text, padding="max_length").input_ids
    assert loaded.model_max_length == LENGTH
