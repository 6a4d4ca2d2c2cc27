import pytest
import torch

from stages.metrics.base import measure
from stages.metrics.clip_score import CLIPScore, embed_images, embed_texts, load_clip, prepare
from stages.metrics.samples import Samples
from stages.worlds.words import LENGTH


def samples(n: int = 4, seed: int = 0) -> Samples:
    images = torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(seed))
    return Samples(images, [{"prompt": f"a red {w}", "seed": 0} for w in ("circle", "square", "cross", "ring")][:n], {})


def test_the_score_is_the_model_s_own_logit_over_its_temperature(clip_folder):
    given, metric = samples(), CLIPScore(model=clip_folder, draws=100)
    model, tokenizer = load_clip(clip_folder)
    tokens = tokenizer(given.prompts, padding="max_length", max_length=LENGTH, return_tensors="pt")
    logits = model(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=prepare(given.images, 16)
    ).logits_per_image
    expected = 100 * logits.diagonal() / model.logit_scale.exp()
    assert torch.allclose(metric.features(given)[:, 0], expected, atol=1e-4)


def test_scale_and_change(clip_folder):
    given, other = samples(), samples(seed=1)
    by_scale = [
        measure(CLIPScore(model=clip_folder, scale=s, draws=100), "c", {"x": given}, {"x": other}) for s in (1, 100)
    ]
    small, large = ({row["metric"]: row["value"] for row in content["rows"]} for content in by_scale)
    assert large["clip_score"] == pytest.approx(100 * small["clip_score"], rel=1e-4)
    change = large["clip_score_change"]
    theirs = measure(CLIPScore(model=clip_folder, draws=100), "c", {"x": other}, None)["rows"][0]["value"]
    assert change == pytest.approx(large["clip_score"] - theirs, abs=1e-4) and change != 0


def test_a_clip_scores_the_mean_of_its_frames(clip_folder):
    given = samples(2)
    frames = torch.stack([given.images, samples(2, seed=1).images], 1)
    clip = CLIPScore(model=clip_folder).features(Samples(frames, given.rows, {}))
    single = [CLIPScore(model=clip_folder).features(Samples(frames[:, i], given.rows, {})) for i in range(2)]
    assert torch.allclose(clip, (single[0] + single[1]) / 2, atol=1e-4)


def test_embeddings_are_unit_vectors(clip_folder):
    model, tokenizer = load_clip(clip_folder)
    for vectors in (embed_images(model, samples().images), embed_texts(model, tokenizer, ["a red circle", ""])):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)))
