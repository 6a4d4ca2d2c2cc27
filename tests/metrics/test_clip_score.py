import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from stages.metrics.base import Samples, measure
from stages.metrics.clip_score import CLIPScore, embed_images, embed_texts, load_clip, prepare
from stages.worlds.words import LENGTH, make_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("clip")
    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": 64, "max_position_embeddings": LENGTH, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config=sizes | words, vision_config=sizes | {"image_size": 16, "patch_size": 8}, projection_dim=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def samples(n: int = 4, seed: int = 0) -> Samples:
    images = torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(seed))
    return Samples(images, [{"prompt": f"a red {w}", "seed": 0} for w in ("circle", "square", "cross", "ring")][:n], {})


def test_the_score_is_the_model_s_own_logit_over_its_temperature(folder):
    given, metric = samples(), CLIPScore(model=folder, draws=100)
    model, tokenizer = load_clip(folder)
    tokens = tokenizer(given.prompts, padding="max_length", max_length=LENGTH, return_tensors="pt")
    logits = model(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=prepare(given.images, 16)
    ).logits_per_image
    expected = 100 * logits.diagonal() / model.logit_scale.exp()
    assert torch.allclose(metric.features(given)[:, 0], expected, atol=1e-4)


def test_scale_and_change(folder):
    given, other = samples(), samples(seed=1)
    by_scale = [measure(CLIPScore(model=folder, scale=s, draws=100), "c", {"x": given}, {"x": other}) for s in (1, 100)]
    small, large = ({row["metric"]: row["value"] for row in content["rows"]} for content in by_scale)
    assert large["clip_score"] == pytest.approx(100 * small["clip_score"], rel=1e-4)
    change = large["clip_score_change"]
    theirs = measure(CLIPScore(model=folder, draws=100), "c", {"x": other}, None)["rows"][0]["value"]
    assert change == pytest.approx(large["clip_score"] - theirs, abs=1e-4) and change != 0


def test_a_clip_scores_the_mean_of_its_frames(folder):
    given = samples(2)
    frames = torch.stack([given.images, samples(2, seed=1).images], 1)
    clip = CLIPScore(model=folder).features(Samples(frames, given.rows, {}))
    single = [CLIPScore(model=folder).features(Samples(frames[:, i], given.rows, {})) for i in range(2)]
    assert torch.allclose(clip, (single[0] + single[1]) / 2, atol=1e-4)


def test_embeddings_are_unit_vectors(folder):
    model, tokenizer = load_clip(folder)
    for vectors in (embed_images(model, samples().images), embed_texts(model, tokenizer, ["a red circle", ""])):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)))
