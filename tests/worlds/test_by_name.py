import ast

import pytest
import torch
import yaml

from stages.metrics import rates
from stages.metrics.judged import WORLDS as JUDGED
from stages.params import load_params, metric_params, names
from stages.worlds import by_name
from stages.worlds.by_name import WORLDS, classes, code_of, load_judge, make_tokenizer, make_world, train_part
from stages.worlds.judge import Judge
from stages.worlds.scenes.judge import Judge as SceneJudge
from stages.worlds.shapes import Shapes
from tests import ROOT


@pytest.fixture(params=sorted(WORLDS))
def name(request) -> str:
    return request.param


def test_every_world_draws_and_reads(name):
    world, tokenizer = make_world(name), make_tokenizer(name)
    first, again = (world.sample(12, 3) for _ in range(2))
    assert torch.equal(first.images, again.images) and first.captions == again.captions
    assert first.images.shape == (12, 3, world.size, world.size)
    assert world.clips(2, 3, frames=3).images.shape == (2, 3, 3, world.size, world.size)
    for ids in tokenizer([*first.captions, *world.clips(30, 3, frames=1).captions]).input_ids:
        assert tokenizer.unk_token_id not in ids and len(ids) <= tokenizer.model_max_length
    assert max(tokenizer.get_vocab().values()) == tokenizer.eos_token_id
    assert len(classes(name)) < 1001 and 1000 in classes(name)


def test_several_concepts_are_left_out(name):
    kinds = {"shapes": ["red", "blue circle"], "scenes": ["red", "blue circle", "neon"]}[name]
    captions = make_world(name).sample(500, 0, kinds).captions
    assert not any(f" {concept} " in f" {caption} " for caption in captions for concept in kinds)
    with pytest.raises(ValueError, match="have: "):
        make_world(name).sample(2, 0, ["red", "nothing"])


@pytest.mark.parametrize("frames", [None, 2])
def test_rows_are_rendered_and_what_they_leave_open_is_drawn(name, frames):
    world, (thing,) = make_world(name), {"shapes": ["shape"], "scenes": ["object"]}[name]
    rows = [{"colour": "red", thing: "circle", "direction": "left"}, {"colour": "red"}, {}] * 8
    generators = (torch.Generator().manual_seed(seed) for seed in (0, 0, 1))
    first, again, other = (world.renders(rows, generator, frames) for generator in generators)
    assert torch.equal(first, again) and not torch.equal(first, other)
    size = (world.size, world.size)
    assert first.shape == ((24, 3, *size) if frames is None else (24, frames, 3, *size))
    middle = first.reshape(24, -1, 3, *size)[:, 0, :, size[0] // 2, size[0] // 2]
    if frames is None:
        assert (middle[::3, 0] > 0.7).all() and (middle[::3, 1:] < 0.3).all()


def test_a_judge_is_found_by_its_file(tmp_path):
    Judge(Shapes().colours, Shapes().shapes, width=4, depth=4).save(tmp_path / "a")
    SceneJudge(width=4, depth=8).save(tmp_path / "b")
    assert isinstance(load_judge(tmp_path / "a"), Judge) and isinstance(load_judge(tmp_path / "b"), SceneJudge)
    for folder, world, size in (("a", "Shapes", 32), ("b", "Scenes", 64)):
        judge = load_judge(tmp_path / folder)
        assert type(judge.world(size)).__name__ == world and judge.world(size).size == size
        verdict = judge.look(torch.rand(3, 3, size, size))
        assert len(verdict.probabilities()) == 3 and len(verdict.named("pair")) == 3
        assert {*judge.drawn} - {"direction"} == {*verdict.labels()} - {"pair"}
    (tmp_path / "b" / "judge.json").write_text("[1]")
    with pytest.raises(ValueError, match="judge.json: not the description of a judge"):
        load_judge(tmp_path / "b")


def test_a_judge_that_is_not_there_is_said_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="stages.pretrain judge --world scenes --out"):
        load_judge(tmp_path / "scenes" / "judge")
    with pytest.raises(FileNotFoundError, match="stages.pretrain judge --out"):
        load_judge(tmp_path / "shapes" / "judge")


def test_what_is_not_there_is_refused_with_what_is():
    with pytest.raises(ValueError, match=r"no world 'scene'; did you mean scenes"):
        make_world("scene")
    with pytest.raises(ValueError, match="the world of scenes has no eyes.*judge"):
        train_part("scenes", "eyes", 0)
    with pytest.raises(ValueError, match="here: unknown key 'colour'; did you mean colours"):
        make_world("shapes", {"colour": ["red"]}, "here")
    assert make_world("scenes", {"pairs": 0.0}).pairs == 0.0


def test_every_path_leads_to_something(name):
    for part in WORLDS[name].trained:
        for path in code_of(name, part):
            assert callable(by_name._at(path))
    assert {"judge"} <= set(WORLDS[name].trained)


def test_settings_and_metrics_know_the_same_worlds():
    schema = yaml.safe_load((ROOT / "stages/params/schemas/backbones.schema.yaml").read_text())
    assert set(schema["properties"]["world"]["enum"]) == set(WORLDS) == set(JUDGED) == set(rates.OF_WORLDS)
    for world, labels in rates.OF_WORLDS.items():
        judge = by_name._at(WORLDS[world].judge)
        assert set(labels) == {*judge.drawn, "pair", "direction"}
    for metric in names("metrics"):
        if "{world}" in str(load_params("metrics", metric)):
            assert metric_params(metric, "sd-shapes")["judge"] == "artifacts/worlds/shapes/judge"


def test_names_cost_no_import_of_torch():
    tree = ast.parse((ROOT / "stages/worlds/by_name.py").read_text())
    assert not [
        node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) and "torch" in ast.unparse(node)
    ]
