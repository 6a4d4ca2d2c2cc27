"""Token spans, aliases, replacement and gradients of textual inversion against a tiny T5's numbers."""

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from stages.control.words import occurrences, token_span, tokenize, written_out
from stages.interventions.embedding import replaced
from tests.parity.fixtures import Fixtures

FIXTURES = Fixtures("methods/textual_inversion")
SPANS = FIXTURES.json("spans.json")
ENCODER, GRADIENT = {"rtol": 1e-4, "atol": 1e-5}, {"rtol": 1e-3, "atol": 1e-7}


@pytest.fixture(scope="module")
def tokenizer():
    core = Tokenizer.from_file(str(FIXTURES.folder / "tokenizer.json"))
    core.no_padding()
    core.no_truncation()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def encoder():
    config = FIXTURES.config
    made = T5EncoderModel(
        T5Config(d_model=config["d_model"], num_heads=config["heads"], num_layers=config["layers"], **config["t5"])
    )
    missing, unexpected = made.load_state_dict(FIXTURES.tensors("t5_model.safetensors", "model."), strict=False)
    assert not unexpected and all("embed_tokens" in name for name in missing)
    return made.eval().requires_grad_(False)


def check_spans(text, places, tokens, wanted):
    assert len(places) == len(wanted)
    for place, span in zip(places, wanted, strict=True):
        if span.get("error"):
            match = {"misaligned": "shares a token", "truncated": "is truncated"}[span["error"]]
            with pytest.raises(ValueError, match=match):
                token_span(text, place, tokens.offsets, tokens.pieces)
        else:
            assert token_span(text, place, tokens.offsets, tokens.pieces) == (span["token_start"], span["token_end"])


@pytest.mark.parametrize("case", SPANS["cases"], ids=lambda case: case["text"])
def test_spans(case, tokenizer):
    tokens = tokenize(tokenizer, case["text"], len(case["ids"]))
    assert list(tokens.ids) == case["ids"] and list(tokens.pieces) == case["pieces"]
    places = occurrences(case["text"], case["concept"])
    assert [list(place) for place in places] == case["char_occurrences"]
    check_spans(case["text"], places, tokens, case["spans"])


@pytest.mark.parametrize("case", SPANS["alias_cases"], ids=lambda case: f"{case['text']} for {case['target_alias']}")
def test_aliases(case, tokenizer):
    prompt = written_out(case["text"], SPANS["aliases"])
    assert prompt.text == case["resolved"]
    places = prompt.places.get(case["target_alias"], ())
    assert [list(place) for place in places] == case["char_spans_in_resolved"]
    tokens = tokenize(tokenizer, prompt.text, len(case["ids"]))
    assert list(tokens.ids) == case["ids"]
    check_spans(prompt.text, places, tokens, case["spans"])


@pytest.mark.parametrize("case", SPANS["truncation"], ids=lambda case: f"{case['text']} in {case['max_length']}")
def test_truncation(case, tokenizer):
    tokens = tokenize(tokenizer, case["text"], case["max_length"])
    assert list(tokens.ids[: tokens.real]) == case["ids"]
    check_spans(case["text"], occurrences(case["text"], case["concept"]), tokens, case["spans"])


def packed(values, lengths):
    return torch.cat([row[:n] for row, n in zip(values, lengths.tolist(), strict=True)])


def losses(values, data):
    """The fixture's readout of packed rows, plain and of rows at unit root mean square."""
    rows = packed(values, data["lens"])
    scaled = rows / (rows.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return tuple(((part @ data["Wp"]).tanh() - data["target"]).square().mean() for part in (rows, scaled))


def spans_of(config, tokenizer, length):
    found = []
    for row, text in enumerate(config["prompts"]):
        tokens = tokenize(tokenizer, text, length)
        found += [(row, *tokens.span(place)) for place in occurrences(text, config["concept"])]
    return found


@pytest.mark.parametrize("file", FIXTURES.files("replace_"))
def test_replacement(file, tokenizer, encoder):
    data, config = FIXTURES.tensors(file), FIXTURES.manifest["files"][file]["config"]
    length = data["ids"].shape[1]
    tokens = [tokenize(tokenizer, text, length) for text in config["prompts"]]
    assert torch.equal(torch.tensor([t.ids for t in tokens]), data["ids"])
    assert torch.equal(torch.tensor([t.real for t in tokens]), data["lens"])
    spans = spans_of(config, tokenizer, length)
    assert spans == [tuple(row) for row in data["spans"].tolist()]
    out = encoder(input_ids=data["ids"], attention_mask=data["mask"]).last_hidden_state
    torch.testing.assert_close(out, data["encoder_out"], **ENCODER)
    torch.testing.assert_close(packed(out, data["lens"]), data["kv_compact_plain"], **ENCODER)
    row, start, end = spans[0]
    torch.testing.assert_close(out[row, start:end].mean(0), data["init_mean"], **ENCODER)
    torch.testing.assert_close(out[row, start], data["init_first"], **ENCODER)
    torch.testing.assert_close(out[row, start:end], data["init_rows"], **ENCODER)
    for mode, name in (("shared", "vec_shared"), ("positions", "vec_positions")):
        vectors = data[name].clone().requires_grad_(True)
        found = replaced(data["encoder_out"], vectors.view(-1, vectors.shape[-1]), spans)
        torch.testing.assert_close(found.detach(), data[f"{mode}.out"])
        torch.testing.assert_close(packed(found, data["lens"]).detach(), data[f"{mode}.kv_compact"])
        for value, key in zip(losses(found, data), ("loss", "loss_rms"), strict=True):
            torch.testing.assert_close(value.detach(), data[f"{mode}.{key}"], **ENCODER)
            grad = torch.autograd.grad(value, vectors, retain_graph=True)[0]
            torch.testing.assert_close(grad, data[f"{mode}.{key.replace('loss', 'grad')}"], **GRADIENT)


@pytest.mark.parametrize("file", FIXTURES.files("replace_"))
def test_input_mode(file, tokenizer, encoder):
    data, config = FIXTURES.tensors(file), FIXTURES.manifest["files"][file]["config"]
    spans = spans_of(config, tokenizer, data["ids"].shape[1])
    vectors = data["vec_input"].clone().requires_grad_(True)
    embeds = replaced(encoder.get_input_embeddings()(data["ids"]), vectors, spans)
    out = encoder(inputs_embeds=embeds, attention_mask=data["mask"]).last_hidden_state
    torch.testing.assert_close(out.detach(), data["input.out"], **ENCODER)
    loss = losses(out, data)[0]
    torch.testing.assert_close(loss.detach(), data["input.loss"], **ENCODER)
    torch.testing.assert_close(torch.autograd.grad(loss, vectors)[0], data["input.grad"], rtol=1e-3, atol=1e-6)
