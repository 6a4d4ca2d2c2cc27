"""An attack that knows the gate: the gate is in its loss, its words are out of its prompts, and every gate tells."""

from dataclasses import replace

import pytest
import torch

from stages.attacks.base import Found, Victim
from stages.attacks.closed_gate import ClosedGate, GateHunt
from stages.attacks.shared.aims import Aim
from stages.attacks.shared.pictures import drawn_pictures
from stages.interventions import Stack
from stages.interventions.adapter import Adapter, share_added
from stages.interventions.conditional import all_watched, gates_of, opened
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.membrane import Membrane, Permeability, gated_layers
from stages.interventions.rewording import Rewording
from stages.interventions.steering.gates import gate_open, gate_tensors, opening
from stages.interventions.weights import Weights
from stages.methods import load_method
from stages.methods.shared.free_tokens import Reader
from stages.seeds import GIVEN
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES
from tests.methods.cut_down import cut_down

QUICK = ClosedGate(tokens=2, attempts=1, samples=2, iterations=2, lr=0.1, readable=True)
FIXED = {"start": 1.0, "found": 0.0}


def membrane(backbone, measure="tokens", spread=0.1):
    blocks = sorted({site.block for site in backbone.select("block", stream="image")})
    draws = torch.Generator().manual_seed(0)
    layers = gated_layers(linear_layers(backbone, blocks))
    change = LowRank.create(backbone, layers, 1, draws, spread=spread)
    return Membrane.of(backbone, [change], [("red",)], Permeability(measure))


def adapter(backbone):
    made = Adapter.fresh(backbone, backbone.select("cross_attn", "attn", stream="image"), 2, seed=0)
    for layer in made.layers:
        layer.up.weight.data = 0.1 * torch.randn(layer.up.weight.shape, generator=torch.Generator().manual_seed(1))
    return made


def hunt_of(backbone, concept, victim, attack=QUICK):
    aim = Aim.at(backbone, drawn_pictures(backbone, concept.prompts[:1], 1, 0))
    words = attack.words_of(concept.prompts[0], ["red"], concept.prompts)
    return GateHunt(attack, Reader(backbone), aim, (concept.prompts[0], words), 0, gates_of(victim))


def test_the_gate_is_in_the_loss_and_in_its_gradient(backbone, concept):
    own = membrane(backbone, "cosine")
    with own.attach(backbone):
        plain, heavy = (hunt_of(backbone, concept, own, replace(QUICK, weight=w)) for w in (0.0, 10.0))
        simplex, drawn = plain.start(torch.Generator()), torch.tensor([3, 5])
        state, target = plain.aim.state(0, 500, torch.Generator().manual_seed(2))
        (without, first), (with_gate, second) = (one.loss(simplex, drawn, state, target) for one in (plain, heavy))
        said = plain.reader.said(plain.ids[drawn].tolist(), plain.words)
        gate = own.gate(backbone, backbone.encode([said])).item()
    assert 0 < gate < 1
    assert float(with_gate - without) == pytest.approx(10 * gate, rel=1e-3)
    assert not torch.allclose(first, second)


def test_a_heavy_gate_is_what_the_search_closes(backbone, concept):
    own = membrane(backbone, "cosine", spread=0.01)
    attack = replace(QUICK, samples=8, iterations=5, lr=0.1, weight=1000.0, weight_decay=0.0)
    with own.attach(backbone):
        hunt = hunt_of(backbone, concept, own, attack)
        said = [f"{hunt.reader.tokenizer.decode([int(i)])} {hunt.words}" for i in hunt.ids]
        usual = own.gate(backbone, backbone.encode(said)).mean()
    attempt = attack.search(backbone, concept, seed=0, victim=Victim(own))
    (gates,) = attempt.notes["gates"]
    assert gates["found"] < usual and gates["found"] < gates["start"]


@pytest.mark.parametrize("family", ["unet", "sd3", "cogvideox-2b", "infinity"])
def test_no_word_that_opens_a_gate_is_asked_for(concept, family):
    backbone = tiny_infinity.make(steps=4) if family == "infinity" else FAMILIES[family].make(steps=2)
    for own in (membrane(backbone), Rewording({"red": ""}, noun=False)):
        attempt = QUICK.search(backbone, concept, seed=0, victim=Victim(Stack(own)))
        (found,) = attempt.found
        assert found.start == concept.prompts[0] and "red" not in found.prompt.split()
        assert found.prompt.endswith("a shape")
        assert attempt.notes["gates"] == [FIXED]
    kept = replace(QUICK, words="keep").search(backbone, concept, seed=0, victim=Victim(membrane(backbone)))
    assert kept.prompts[0].endswith(concept.prompts[0]) and kept.notes["gates"] == [{"start": 1.0, "found": 1.0}]


def told(backbone, own, prompt):
    state, _ = Aim.at(backbone, torch.zeros(1, 3, *backbone.picture_size())).state(0, 500, torch.Generator())
    with torch.no_grad(), own.attach(backbone), all_watched(gates_of(own)) as values:
        condition = backbone.encode([prompt])
        backbone.guider(condition, 3.0)(state)
    return float(opened(values))


def test_every_gate_tells_how_far_it_is_open(backbone, concept):
    small = {name: cut_down(load_method(name, "tiny")) for name in ("safree", "prototype_steering", "videoeraser")}
    steering = replace(small["prototype_steering"], gate="nearest").fit(backbone, concept, seed=0)
    for own in (adapter(backbone), steering, small["safree"].fit(backbone, concept, seed=0)):
        assert 0 <= told(backbone, own, "a red shape") <= 1
    assert 0 < told(backbone, adapter(backbone), "a red shape") < 1
    assert len(gates_of(small["videoeraser"].fit(backbone, concept, seed=0))) == 1
    assert gates_of(replace(small["prototype_steering"], gate="none").fit(backbone, concept, seed=0)) == []
    assert share_added(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.0]])).item() == 0.5
    assert float(opened([[torch.tensor([0.2, 0.4]), torch.tensor([0.6])], []])) == pytest.approx(0.225)


@pytest.mark.parametrize("gate", ["nearest", "discriminant", "region"])
def test_a_steering_gate_opens_at_a_half(gate):
    draws = torch.Generator().manual_seed(0)
    source, other = torch.randn(60, 3, generator=draws) + 1, torch.randn(60, 3, generator=draws)
    by = gate_tensors(gate, source, other, 0.5, 0.9)
    pooled = torch.cat([source, other])
    smooth, hard = opening(gate, pooled, by), gate_open(gate, pooled, by)
    assert 0 < hard.float().mean() < 1 and ((smooth >= 0) & (smooth <= 1)).all()
    assert torch.equal(smooth >= 0.5, hard)
    assert torch.equal(opening("none", pooled, by), torch.ones(120))


def test_an_erasure_without_a_gate_is_refused(backbone, concept):
    weights = Weights.copy(backbone, backbone.weights("cross_attn"))
    with pytest.raises(ValueError, match="Weights has none; choose unlearndiffatk"):
        QUICK.search(backbone, concept, seed=0, victim=Victim(weights))


def test_the_state_at_which_gates_are_told_belongs_to_the_seed(backbone, concept, monkeypatch):
    own, owners, state_of = membrane(backbone), [], Aim.state

    def watched(aim, number, time, owner):
        owners.append(owner.initial_seed())
        return state_of(aim, number, time, owner)

    with own.attach(backbone):
        hunt = hunt_of(backbone, concept, own)
        monkeypatch.setattr(Aim, "state", watched)
        for seed in (0, 0, 1):
            hunt.openings(Found("a red shape", "a shape", before=False, after=False), seed)
    assert owners[0] == owners[1] != owners[2] and min(owners) >= GIVEN
