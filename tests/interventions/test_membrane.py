"""Membranes: each row has its prompt's gate, open ones are a LoRA, closed ones change no bit, and files keep them."""

import pytest
import torch

from stages.interventions import Identity, Stack, load, save
from stages.interventions.conditional import all_watched, gates_of
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.membrane import Membrane, Permeability, gated_layers, of_rows
from stages.interventions.weights import Weights
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES as TINY

FAMILIES = ["unet", "xl", "sd3", "flux-dev", "pixart", "sana", "cogvideox-2b", "wan", "infinity"]
ALONE, BOTH = ["a red circle"], ["a red circle", "a blue square"]
TOKENS = Permeability("tokens")


def change(backbone, seed=0):
    blocks = sorted({site.block for site in backbone.select("block", stream="image")})
    draws = torch.Generator().manual_seed(seed)
    return LowRank.create(backbone, gated_layers(linear_layers(backbone, blocks)), 1, draws, spread=0.3)


def membrane(backbone, *words, permeability=TOKENS):
    changes = [change(backbone, seed) for seed in range(len(words))]
    return Membrane.of(backbone, changes, [(word,) for word in words], permeability)


def draw(backbone, prompts, seeds=None):
    run = {"steps": backbone.settings.steps, "guidance": 3.0, "seeds": seeds or list(range(len(prompts)))}
    return backbone.sample(backbone.encode(prompts), **run)


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request):
    """A tiny backbone of a family."""
    if request.param == "infinity":
        return tiny_infinity.make(steps=4)
    return TINY[request.param].make(steps=2)


def test_each_row_is_drawn_as_if_its_prompt_were_alone(tiny):
    """Red is open for the first prompt and closed for the second, in one batch; open it is peft's own LoRA."""
    own = membrane(tiny, "red")
    gates = own.gate(tiny, tiny.encode([*BOTH, ""]))
    assert gates.tolist() == [[1.0], [0.0], [0.0]]
    plain = draw(tiny, BOTH)
    with change(tiny).attach(tiny):
        wanted = draw(tiny, BOTH)
    with own.attach(tiny):
        found = draw(tiny, BOTH)
    assert torch.equal(draw(tiny, BOTH), plain)
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=2e-3)
    assert not torch.allclose(found[0], plain[0], atol=1e-2 if tiny.name == "infinity" else 1e-3)
    assert torch.equal(found[1], plain[1])


def test_a_saved_one_is_the_same(tiny, tmp_path):
    own = membrane(tiny, "red", "square", permeability=Permeability("both", 0.1, 2.0))
    save(own, tmp_path)
    again = load(tmp_path)
    assert again.spec() == own.spec() and again.tensors().keys() == own.tensors().keys()
    with own.attach(tiny):
        wanted = draw(tiny, BOTH)
    with again.attach(tiny):
        assert torch.equal(draw(tiny, BOTH), wanted)


def test_a_gate_is_the_larger_of_cosine_and_shared_tokens_of_the_nearest_name(backbone):
    cosines, shares = torch.tensor([[0.5, 0.7], [0.9, 0.1]]), torch.tensor([[0.6, 0.0], [0.0, 1.0]])
    assert Permeability().of(cosines, shares).tolist() == pytest.approx([0.7, 1.0])
    assert Permeability("cosine").of(cosines, shares).tolist() == pytest.approx([0.7, 0.9])
    assert Permeability("tokens").of(cosines, shares).tolist() == pytest.approx([0.6, 1.0])
    assert Permeability("cosine", 0.8).of(cosines, shares).tolist() == pytest.approx([0.0, 0.5])
    assert Permeability("cosine", 0.8, 2.0).of(cosines, shares).tolist() == pytest.approx([0.0, 0.25])

    own = Membrane.of(backbone, [change(backbone)], [("red circle", "blue")], Permeability("cosine"))
    asked = backbone.encode(["a red shape"])
    texts = backbone.encode(["red circle", "blue"]).tensors["embeds"].flatten(1)
    said = asked.tensors["embeds"].flatten()
    wanted = max(float(torch.dot(said, one) / said.norm() / one.norm()) for one in texts)
    assert own.gate(backbone, asked).item() == pytest.approx(wanted, abs=1e-5)
    tokens = Membrane.of(backbone, [change(backbone)], [("red circle",)], TOKENS)
    assert tokens.gate(backbone, backbone.encode(["a red shape", "circle red", "a shape"])).tolist() == [
        [0.5],
        [1],
        [0],
    ]


def test_several_concepts_add_up_each_through_its_own_gate(backbone):
    """Of one layer, by hand: W x + 1 B0 A0 x in the first row, + 1 B1 A1 x in the second, both in the third."""
    own, prompts = membrane(backbone, "red", "square"), ["a red circle", "a blue square", "a red square", "a circle"]
    layer = own.changes[0].layers[0]
    x = torch.randn(8, 5, backbone.net.get_submodule(layer).weight.shape[1], generator=torch.Generator().manual_seed(0))
    plain = backbone.net.get_submodule(layer)(x)
    roles = {"uncond": slice(0, 4), "cond": slice(4, 8)}
    with own.attach(backbone), backbone.attached.at(0, roles, condition=backbone.encode(prompts)):
        found = backbone.net.get_submodule(layer)(x)
    parts = [x @ one.down[0].T @ one.up[0].T for one in own.changes]
    gates = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0]]).repeat(2, 1)
    wanted = plain + sum(gates[:, i, None, None] * part for i, part in enumerate(parts))
    torch.testing.assert_close(found, wanted)
    assert torch.equal(found[[3, 7]], plain[[3, 7]])


def test_one_scale_for_all_is_a_lora_that_others_load(backbone):
    own = membrane(backbone, "red", "square")
    fixed = own.fixed(0.5)
    assert isinstance(fixed, LowRank) and fixed.rank == 2
    with fixed.attach(backbone):
        found = draw(backbone, BOTH)
    halves = [LowRank.restore(one.tensors(), one.spec() | {"scaling": 0.5}) for one in own.changes]
    with halves[0].attach(backbone), halves[1].attach(backbone):
        torch.testing.assert_close(found, draw(backbone, BOTH), rtol=0, atol=1e-4)


def test_gradients_reach_the_text_through_the_gate(backbone):
    own = membrane(backbone, "red", permeability=Permeability("cosine"))
    condition = backbone.encode(["a blue square"])
    embeds = condition.tensors["embeds"].clone().requires_grad_()
    state = next(backbone.states(condition, 1, seed=0))
    with own.attach(backbone), all_watched(gates_of(own)) as openings:
        backbone.predict(state, condition.with_tensors(embeds=embeds)).detach()
    ((first, *_),) = openings
    (gradient,) = torch.autograd.grad(first.sum(), embeds)
    assert gradient.abs().max() > 0 and 0 < first.item() < 1


def test_rows_that_are_no_prompts_and_calls_without_prompts_are_refused(backbone):
    own = membrane(backbone, "red")
    condition = backbone.encode(BOTH)
    layer, says = backbone.net.get_submodule(own.changes[0].layers[0]), "tiny was called without prompts"
    with own.attach(backbone), backbone.attached.at(0, {}), pytest.raises(ValueError, match=says):
        layer(torch.zeros(2, 1, 8))
    with backbone.attached.at(0, {"cond": slice(0, 2)}, condition=condition):
        at = backbone.attached.moment(None)
    assert of_rows(torch.tensor([[0.0], [1.0]]), 4, at).flatten().tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="a layer of 3 rows has none for each of 2 prompts and roles"):
        of_rows(torch.zeros(2, 1), 3, at)
    dit = TINY["dit"].make()
    with pytest.raises(ValueError, match="knows classes"):
        own.gate(dit, dit.encode(["red circle"]))


def test_gates_are_found_in_stacks_and_nowhere_else(backbone):
    own = membrane(backbone, "red")
    weights = Weights.copy(backbone, backbone.weights("cross_attn"))
    assert gates_of(Stack(weights, Stack(own))) == [own]
    assert gates_of(weights) == gates_of(Identity()) == []
