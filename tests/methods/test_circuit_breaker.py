"""Circuit breakers leave the stationary start, turn the concept and keep the rest; data sets read as documented."""

import dataclasses
import functools
import json

import pytest
import torch

from stages.documented.breaker_data import BreakerData, read_breaker_data
from stages.methods.circuit_breaker import CircuitBreaker, Rerouting
from stages.objectives.rerouting import coefficients, token_cosine, token_distance
from stages.params.concept import Concept, load_concept
from stages.seeds import GIVEN, Purpose, generator
from stages.store.record import recording

step_generator = functools.partial(generator, Purpose.STEP)


def mean(cosines):
    values = [value for scales in cosines.values() for value in scales.values()]
    return sum(values) / len(values)


def test_it_leaves_the_stationary_start_within_twenty_steps(backbone, concept, tmp_path):
    method = CircuitBreaker(steps=20, batch=2, lr=3e-3, rank=4, norm="relative", watched=4, log_every=20)
    with recording(tmp_path, "train", params={}) as record:
        method.fit(backbone, concept, seed=0)
    assert mean(record.notes["cosines"]["breaker"]) < 0.9
    assert all(-1 <= value <= 1 for scales in record.notes["cosines"]["retain"].values() for value in scales.values())


def test_a_start_at_zero_has_no_gradient(backbone, concept):
    """Why B starts with a spread: at B = 0 the cosine is 1 and the distance 0, both flat."""
    run = Rerouting(CircuitBreaker(steps=2, batch=2, rank=2, start=0.0), backbone, BreakerData.of(concept), seed=0)
    with run.lora.injected(backbone):
        run.loss(0, step_generator(0, 0)).backward()
    assert max(float(value.grad.abs().max()) for value in run.lora.parameters()) < 1e-5


@pytest.mark.parametrize(
    "change",
    [{"reroute": "neutral"}, {"centre": True}, {"divergence": 1.0}, {"response_only": 0.5}, {"horizon": "T+1"}],
    ids=lambda change: next(iter(change)),
)
def test_every_variant_trains(backbone, concept, change):
    settings = {"steps": 2, "batch": 2, "rank": 2, "lr": 1e-2, "watched": 0}
    plain = CircuitBreaker(**settings).fit(backbone, concept, seed=0)
    other = CircuitBreaker(**settings, **change).fit(backbone, concept, seed=0)
    pairs = zip(plain.tensors().values(), other.tensors().values(), strict=True)
    assert all(torch.isfinite(b).all() for _, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(plain.up, other.up, strict=True))


def test_the_papers_layers_are_the_tenth_and_the_twentieth_of_32_blocks():
    assert {depth: CircuitBreaker().targets(depth) for depth in (1, 2, 4, 12, 32)} == {
        1: (0,),
        2: (0,),
        4: (0, 1),
        12: (2, 6),
        32: (9, 19),
    }
    assert CircuitBreaker().transforms(32) == tuple(range(20))


def test_layers_that_are_not_there_are_named(backbone, concept):
    with pytest.raises(ValueError, match="target_layers: tiny has no block 9; it has 0 to 6"):
        CircuitBreaker(target_layers=(9,)).fit(backbone, concept, seed=0)
    with pytest.raises(ValueError, match="-1 means all and stands alone"):
        CircuitBreaker(transform_layers=(-1, 2)).fit(backbone, concept, seed=0)


def test_the_schedule_ends_half_way():
    assert coefficients(150, 10.0, 300) == (5.0, 5.0)
    assert coefficients(0, 10.0, 300) == (10.0, 0.0)


def test_closed_forms_of_the_losses():
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    assert token_cosine(a, b).item() == pytest.approx(24 / 25)
    assert token_distance(a, b).item() == pytest.approx(2**0.5)
    assert token_distance(a, b, "relative").item() == pytest.approx(2**0.5 / 5)
    assert token_distance(a, b, "root").item() == pytest.approx(1.0)


def test_documented_json(tmp_path):
    path = tmp_path / "prompts.json"
    rows = [{"sanitized_prompt": f"safe {i}", "id": i} for i in range(20)]
    content = {"gore_prompts": ["bad", {"prompt": "worse"}, {"original_prompt": "worst"}]}
    path.write_text(json.dumps(content | {"gore_sanitized_prompts": {"prompts": rows}}))
    data = read_breaker_data(path)
    assert data.breaker == ("bad", "worse") and data.unseen == ("worst",) and not data.twins
    assert data.validation == ("safe 9", "safe 19") and len(data.retain) == 18
    assert not set(data.validation) & set(data.retain)


def test_documented_csv(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,normal prompt\n" + "".join(f"a red {i},a {i % 15}\n" for i in range(20)))
    data = read_breaker_data(path)
    assert data.unseen == ("a red 9", "a red 19") and len(data.breaker) == len(data.twins) == 18
    assert data.validation == ("a 9",)  # `a 4` is the twin of another row, too
    assert set(data.retain) == {f"a {i}" for i in range(15)} - {"a 9"}
    path.write_text("unsafe,safe\na red one,a one\n")
    data = read_breaker_data(path)
    assert (data.breaker, data.twins, data.unseen) == (("a red one",), ("a one",), ())


def test_a_list_of_rows_is_a_table(tmp_path):
    (tmp_path / "a.json").write_text('[{"prompt": "a red one", "anchor": "a one"}]')
    assert read_breaker_data(tmp_path / "a.json").twins == ("a one",)


def test_a_concept_without_a_dataset_holds_out_of_both_sides():
    prompts, neutral = (tuple(f"{word} {i}" for i in range(12)) for word in ("red", "plain"))
    data = BreakerData.of(Concept("red", prompts, neutral, tuple(f"blue {i}" for i in range(20))))
    assert data.unseen == ("red 9",) and data.validation == ("blue 9", "blue 19", "plain 9")
    assert not {*data.breaker, *data.retain, *data.twins} & {*data.validation, *data.unseen}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "3", "expected '<category>_prompts' and .*, got int"),
        ("a.json", "[1]", "expected a list of rows"),
        ("a.json", "{", "not a JSON file"),
        ("a.json", '{"x_prompts": [3]}', "x_prompts: row 1: expected texts or objects with one of"),
        ("a.json", '{"x_prompts": "bad"}', "x_prompts: expected a list"),
        ("a.json", '{"x_prompts": ["bad"]}', "need retain prompts"),
        ("a.csv", "text,label\na,b\n", "no column 'prompt' or .*; have: text, label"),
        ("a.csv", "prompt,normal prompt\na,b\nc\n", "row 2: expected 2 columns"),
        ("a.csv", "prompt,normal prompt\na,\n", "row 1: a prompt is empty"),
    ],
)
def test_wrong_data_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_breaker_data(tmp_path / name)


def test_what_is_watched_is_never_trained_on():
    for name in ("red", "circle", "red_clip"):
        concept = load_concept(name)
        data = BreakerData.of(concept)
        trained, held = {*data.breaker, *data.retain}, {*data.validation, *data.unseen}
        assert data.validation and data.unseen and not trained & held
        (word,) = concept.target.values()
        assert all(word in prompt for prompt in data.unseen) and not any(word in prompt for prompt in data.validation)


def test_what_is_watched_is_read_in_batches_that_the_backbone_fits(backbone, concept, monkeypatch):
    sizes, draw = [], backbone.draw
    run = Rerouting(CircuitBreaker(steps=2, rank=2), backbone, BreakerData.of(concept), seed=0)
    monkeypatch.setattr(
        backbone, "draw", lambda condition, *rest: sizes.append(len(condition)) or draw(condition, *rest)
    )
    for batch, expected in ((16, [8] * 4), (3, [3] * 12), (1, [1] * 32)):
        backbone.settings = dataclasses.replace(backbone.settings, batch=batch)
        with run.lora.injected(backbone):
            run.watch(2)
        assert sizes == expected
        sizes.clear()


@pytest.mark.parametrize("seed", [0, 2])
def test_what_is_watched_shares_no_noise_with_training(backbone, concept, monkeypatch, seed):
    purposes, draw = [], backbone.draw

    def noted(condition, generator):
        purposes.append(generator.initial_seed() // GIVEN)
        return draw(condition, generator)

    run = Rerouting(CircuitBreaker(steps=2, batch=2, rank=2), backbone, BreakerData.of(concept), seed=seed)
    monkeypatch.setattr(backbone, "draw", noted)
    with run.lora.injected(backbone):
        run.loss(0, step_generator(seed, 0))
        run.watch(1)
    assert purposes[:2] == [Purpose.STEP] * 2
    assert set(purposes[2:]) == {Purpose.PARTIAL}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_cosines_are_logged_by_layer_and_scale_on_the_way(backbone, concept, tmp_path, accumulate):
    method = CircuitBreaker(steps=4, batch=2, rank=2, watched=1, log_every=2, accumulate=accumulate)
    with recording(tmp_path, "train", params={}) as record:
        method.fit(backbone, concept, seed=0)
    watched = record.notes["watched"]
    assert [at["step"] for at in watched] == [2, 4]
    for seen in (*(at["cosines"] for at in watched), record.notes["cosines"]):
        assert list(seen) == ["breaker", "retain"]
        assert all(list(layers) == ["1.block.out", "3.block.out"] for layers in seen.values())
        assert all(scales for layers in seen.values() for scales in layers.values())
