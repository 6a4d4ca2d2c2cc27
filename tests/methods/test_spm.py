"""SPM: its loss by hand, anchors that are seldom near the concept, a membrane and a gate for each member."""

from dataclasses import replace

import pytest
import torch

from stages.control.state import Condition, State
from stages.methods import load_method
from stages.methods.spm import SPM, far_rows, random_twin, repeated
from stages.params.concept import Concept
from tests.backbones import tiny_infinity

RED = Concept("red", ("a red circle", "a red square"), ("a circle", "a square"), ("a blue circle", "a green square"))
QUICK = SPM(steps=12, batch=2, lr=0.05, warmup=0, anchor=1.0, anchors=3, states="frozen", measure="tokens")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_the_erasing_loss_is_the_distance_to_the_surrogate_pushed_off_the_concept(backbone):
    method = replace(QUICK, scale=0.5)
    change = method.fresh(backbone, generator(0))
    for value in change.up:
        value.data = 0.3 * torch.randn(value.shape, generator=generator(1))
    asked, empty = backbone.encode(RED.prompts), backbone.encode([""]).repeat(2)
    state = next(backbone.states(asked, 1, seed=0))
    with torch.no_grad():
        shown, plain = (backbone.predict(state, condition) for condition in (asked, empty))
        with change.attach(backbone):
            student = backbone.predict(state, asked)
            found = student.square().mean()
        loss = method.erasure(backbone, change, state, asked, empty)
    wanted = (student - (plain - 0.5 * (shown - plain))).square().mean()
    torch.testing.assert_close(loss, wanted)
    assert found > 0

    anchors = backbone.encode(["a blue circle", "a green square", "a shape"])
    wide = repeated(state, 3)
    assert torch.equal(wide.latent[2], state.latent[0]) and len(wide.time) == 3
    with torch.no_grad():
        before = backbone.predict(wide, anchors)
        with change.attach(backbone):
            after = backbone.predict(wide, anchors)
        torch.testing.assert_close(
            method.anchoring_loss(backbone, change, state, anchors), (after - before).square().mean()
        )


def test_random_anchors_are_as_long_as_the_concept_and_rather_far_from_it():
    row, draws = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), generator(0)
    twins = torch.stack([random_twin(row, 1.0, (0.8, 1.2), draws) for _ in range(2000)])
    lengths = twins.flatten(1).norm(dim=1)
    assert 4 <= lengths.min() < 4.05 and 5.95 < lengths.max() <= 6
    cosines = torch.cosine_similarity(twins.flatten(1), row.flatten()[None])
    assert cosines.mean() == pytest.approx(-0.159, abs=0.035)  # (-1/8) / (1 - 2/(3 pi)) in 4 dimensions
    even = torch.stack([random_twin(row, 0.0, (1.0, 1.0), draws) for _ in range(2000)])
    assert torch.cosine_similarity(even.flatten(1), row.flatten()[None]).mean() == pytest.approx(0, abs=0.04)


def test_retained_anchors_are_drawn_by_their_distance():
    def texts(*rows):
        return Condition(tuple(map(str, rows)), {"embeds": torch.tensor(rows)[:, None]})

    asked, retain = texts([1.0, 0.0]), texts([2.0, 0.0], [0.0, 1.0], [-1.0, 0.0])  # cosines 1, 0, -1
    drawn = far_rows(asked, retain, 1.0, 3000, generator(0)).prompts
    counts = [drawn.count(prompt) / 3000 for prompt in retain.prompts]
    assert counts == pytest.approx([0, 1 / 3, 2 / 3], abs=0.03)
    sharper = far_rows(asked, retain, 2.0, 3000, generator(0)).prompts
    assert [sharper.count(prompt) / 3000 for prompt in retain.prompts] == pytest.approx([0, 0.2, 0.8], abs=0.03)
    same = far_rows(asked, texts([2.0, 0.0], [3.0, 0.0]), 1.0, 100, generator(0)).prompts
    assert len(set(same)) == 2


def test_anchors_replace_the_text_of_the_concepts_rows_alone(backbone):
    asked = backbone.encode(RED.prompts)
    drawn = QUICK.drawn(asked, None, generator(0))
    assert len(drawn) == 3 and drawn.prompts[2] == RED.prompts[0]
    assert drawn.tensors.keys() == asked.tensors.keys()
    assert not torch.equal(drawn.tensors["embeds"][0], asked.tensors["embeds"][0])
    kept = QUICK.drawn(asked, backbone.encode(RED.retain), generator(0))
    assert set(kept.prompts) <= set(RED.retain)


@pytest.mark.parametrize("anchoring", ["noise", "retain"])
def test_training_lowers_the_loss(backbone, anchoring):
    method = replace(QUICK, anchoring=anchoring, steps=30)
    own = method.fit(backbone, RED, seed=0)
    asked, empty = backbone.encode(RED.prompts), backbone.encode([""]).repeat(2)
    state = next(backbone.states(asked, 1, seed=1))
    with torch.no_grad():
        before, after = (
            float(method.erasure(backbone, change, state, asked, empty))
            for change in (method.fresh(backbone, generator(0)), own.fixed())
        )
    assert after < 0.9 * before


def test_each_member_has_its_own_change_and_gate_whatever_words_the_concept_has(backbone):
    colours = replace(RED, prompts=("a {} circle",), neutral=("a circle",), members=("red", "green"), words=("colour",))
    own = replace(QUICK, steps=2).fit(backbone, colours, seed=0)
    assert own.names == [("red",), ("green",)]
    gates = own.gate(backbone, backbone.encode(["a red square", "a green circle", "a blue circle"]))
    assert gates.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert not torch.equal(own.changes[0].up[0], own.changes[1].up[0])
    with own.attach(backbone):
        state = State(backbone.noise([0]), torch.full((1,), 500), 1)
        blue = backbone.predict(state, backbone.encode(["a blue circle"]))
    assert torch.equal(blue, backbone.predict(state, backbone.encode(["a blue circle"])))


def test_what_cannot_work_is_refused(backbone):
    with pytest.raises(ValueError, match="a floor of 1 keeps every gate closed"):
        replace(QUICK, floor=1.0).fit(backbone, RED, seed=0)
    with pytest.raises(ValueError, match="no denoising run to stop half way"):
        replace(QUICK, states="student").fit(tiny_infinity.make(steps=4), RED, seed=0)


def test_the_papers_settings():
    paper, released = (load_method(name, "sd14") for name in ("spm", "spm_released"))
    assert (paper.rank, paper.steps, paper.lr, paper.warmup, paper.batch) == (1, 3000, 1e-4, 500, 1)
    assert (paper.anchor, paper.anchors, paper.lengths, paper.guidance) == (1000.0, 4, (0.8, 1.2), 3.0)
    assert released == replace(paper, power=2.0)
