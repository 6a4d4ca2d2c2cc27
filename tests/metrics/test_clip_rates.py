import pytest
import torch

from stages.metrics.base import measure
from stages.metrics.clip_rates import CLIPRates
from stages.metrics.clip_score import embed_images, embed_texts, load_clip
from stages.metrics.samples import Samples
from stages.params import build, load_params
from stages.params.datasets import read_prompts

NAMES = ("circle", "square", "cross")


def rates(path: str, **fields: object) -> CLIPRates:
    return CLIPRates(**{"model": path, "choices": {"shape": NAMES}, "template": "a red {}", "draws": 50} | fields)


def samples(asked: list[str], target: str = "circle", seed: int = 0, frames: int = 0) -> Samples:
    size = (len(asked), frames, 3, 20, 24) if frames else (len(asked), 3, 20, 24)
    images = torch.rand(size, generator=torch.Generator().manual_seed(seed))
    rows = [{"prompt": f"a {name}", "seed": i, "shape": name} for i, name in enumerate(asked)]
    return Samples(images, rows, {"shape": target})


def test_the_likeliest_name_is_the_one_with_the_largest_cosine(clip_folder):
    given = samples(["circle"] * 6)
    model, tokenizer = load_clip(clip_folder)
    cosines = embed_images(model, given.images) @ embed_texts(model, tokenizer, [f"a red {n}" for n in NAMES]).T
    chosen = [NAMES[i] for i in cosines.argmax(1).tolist()]
    metric = rates(clip_folder)
    assert metric.look(given).named("shape") == chosen
    for target in NAMES:
        found = metric.features(samples(["circle"] * 6, target))[:, 0]
        assert found.tolist() == [float(name == target) for name in chosen]


def test_a_template_may_name_what_is_seen_twice(clip_folder):
    given = samples(["circle"] * 6)
    model, tokenizer = load_clip(clip_folder)
    texts = embed_texts(model, tokenizer, [f"a {name} like a {name}" for name in NAMES])
    chosen = [NAMES[i] for i in (embed_images(model, given.images) @ texts.T).argmax(1).tolist()]
    assert rates(clip_folder, template="a {} like a {}").look(given).named("shape") == chosen


def test_concept_prompts_count_the_target_and_others_what_they_ask_for(clip_folder):
    metric = rates(clip_folder)
    concept, retain = samples(["circle"] * 4), samples(["square", "cross", "square", "cross"], seed=1)
    content = measure(metric, "c", {"concept": concept, "retain": retain}, {"concept": concept, "retain": retain})
    found = {(row["prompts"], row["metric"]): row for row in content["rows"]}
    assert {name for where, name in found if where == "concept"} == {"target_rate", "target_rate_change"}
    assert {"shape_rate", "joint_rate", "target_rate"} <= {name for where, name in found if where == "retain"}
    named = metric.look(retain).named("shape")
    right = sum(name == row["shape"] for name, row in zip(named, retain.rows, strict=True))
    assert found["retain", "shape_rate"]["value"] == right / 4
    assert found["retain", "target_rate_change"]["value"] == 0


def test_a_clip_is_named_by_the_mean_of_its_frames(clip_folder):
    given = samples(["circle"] * 3, frames=2)
    model, tokenizer = load_clip(clip_folder)
    frames = embed_images(model, given.images.flatten(0, 1)).unflatten(0, (3, 2)).mean(1)
    cosines = frames @ embed_texts(model, tokenizer, [f"a red {name}" for name in NAMES]).T
    assert rates(clip_folder).look(given).named("shape") == [NAMES[i] for i in cosines.argmax(1).tolist()]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"choices": {}}, "at least two names"),
        ({"choices": {"shape": ("circle",)}}, "at least two names"),
        ({"template": "a photo"}, "template must hold {}"),
    ],
)
def test_wrong_fields_are_named(fields, says):
    with pytest.raises(ValueError, match=says):
        rates("nowhere", **fields)


def test_a_concept_that_is_not_among_the_choices_is_refused(clip_folder):
    with pytest.raises(ValueError, match="no shape 'ring'"):
        rates(clip_folder).features(samples(["ring"], target="ring"))


def test_the_file_s_choices_are_the_names_of_the_dataset():
    metric = build(load_params("metrics", "clip_rates"), "clip_rates")
    assert set(metric.choices["class"]) == set(read_prompts("data/dogs_cats.csv")["class"])
