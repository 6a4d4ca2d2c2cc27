import pytest
import torch
from tokenizers import Tokenizer as Words
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from Infinity import Text, TextEncoder
from Infinity.encoder import with_positive_prompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random T5 of width 16 with a word tokenizer that ends each prompt, saved as transformers save theirs."""
    path = tmp_path_factory.mktemp("t5")
    words = Words(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "blue": 4, "circle": 5}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2)
        T5EncoderModel(config).eval().save_pretrained(path)
    return path


def test_prompts_keep_their_own_tokens_with_the_end_mark(folder):
    text = TextEncoder(folder).encode(["red circle", "a very red blue circle"])
    assert text.lengths == (3, 6) and text.values.shape == (9, 16) and text.values.dtype == torch.float32
    alone = TextEncoder(folder).encode(["red circle"])
    assert torch.allclose(alone.values, text.prompts()[0], atol=1e-5)
    assert TextEncoder(folder, max_length=4).encode(["a very red blue circle"]).lengths == (4,)


def test_each_prompt_is_encoded_once_and_then_read_from_disk(folder, tmp_path, monkeypatch):
    first = TextEncoder(folder, cache=tmp_path).encode(["red circle", "blue", "red circle"])
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(TextEncoder, "_load", lambda self: pytest.fail("the encoder was loaded again"))
    again = TextEncoder(folder, cache=tmp_path).encode(["red circle", "blue", "red circle"])
    assert torch.equal(first.values, again.values) and first.lengths == again.lengths == (3, 2, 3)
    with pytest.raises(pytest.fail.Exception):
        TextEncoder(folder, cache=tmp_path, max_length=8).encode(["red circle"])


@pytest.mark.parametrize("kept", [0, 20])
def test_a_damaged_file_of_the_cache_is_made_again(folder, tmp_path, kept):
    first = TextEncoder(folder, cache=tmp_path).encode(["red circle"])
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    assert torch.equal(TextEncoder(folder, cache=tmp_path).encode(["red circle"]).values, first.values)
    assert file.read_bytes() == whole


def test_the_cache_is_open_to_others_and_keeps_nothing_unfinished(folder, tmp_path, monkeypatch):
    TextEncoder(folder, cache=tmp_path).encode(["blue"])
    (file,) = tmp_path.iterdir()
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode

    def stop(*paths):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(OSError, match="no space left"):
        TextEncoder(folder, cache=tmp_path).encode(["red circle"])
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "plain"}


def test_the_positive_prompt_is_added_to_people_only(folder):
    assert with_positive_prompt("a woman").endswith("perfect facial features")
    assert with_positive_prompt("many cats") != "many cats"  # "man" is a part of "many", as published
    assert with_positive_prompt("a red circle") == "a red circle"
    encoder = TextEncoder(folder)
    assert encoder.encode(["a man"], positive=True).lengths[0] > encoder.encode(["a man"]).lengths[0]


def test_padding_masks_and_selection():
    text = Text.of([torch.ones(2, 3), torch.full((4, 3), 2.0)])
    assert text.padded().shape == (2, 4, 3) and not text.padded()[0, 2:].any()
    assert text.mask()[:, 0, 0].tolist() == [[True, True, False, False], [True] * 4]
    assert text.select([1]).mask() is None and text.positions().tolist() == [0, 1, 0, 1, 2, 3]
    assert Text.join([text, text.select([0])]).lengths == (2, 4, 2)


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit 3 rows"):
        Text(torch.ones(3, 2), (1, 1))
    with pytest.raises(ValueError, match="1 to 512"):
        TextEncoder(max_length=600)


def test_a_prompt_longer_than_the_null_text_is_refused(model):
    with pytest.raises(ValueError, match="has 13 tokens, the model knows 12"):
        model.null_text(Text.of([torch.ones(13, 24)]))
