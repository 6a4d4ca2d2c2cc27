"""Every attack on every tiny family: it finds, its pictures can be drawn, and the backbone is as it was."""

import pytest
import torch

from stages.attacks.base import Attempt, Victim
from stages.attacks.black_box import BlackBox
from stages.attacks.concept_inversion import ConceptInversion
from stages.attacks.latent_start import LatentStart
from stages.attacks.p4d import P4D
from stages.attacks.relearning import Relearning
from stages.attacks.ring_a_bell import RingABell
from stages.attacks.sampler_shift import SamplerShift
from stages.attacks.tina import TINA
from stages.attacks.unlearndiffatk import UnlearnDiffAtk
from stages.interventions import load, save
from stages.interventions.weights import Weights
from stages.methods.shared.trained_weights import choose
from stages.params.concept import Concept
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES as TINY

FAMILIES = ["unet", "xl", "sd3", "flux-dev", "dit", "pixart", "sana", "cogvideox-2b", "wan", "infinity"]
RED = Concept("red", ("a red circle", "a red square"), ("a blue circle", "a blue square"), ("a green circle",))
CLASSES = Concept("red", ("red circle", "red square"), ("blue circle", "blue square"), ("green circle",))
ATTACKS = {
    "unlearndiffatk": UnlearnDiffAtk(tokens=2, attempts=1, samples=2, iterations=1, lr=0.1, readable=True),
    "p4d_n": P4D(tokens=3, attempts=1, steps=3, judge_every=2),
    "p4d_k": P4D(every=2, attempts=1, steps=3, judge_every=2),
    "tina": TINA(steps=2, iterations=2, lr=0.01),
    "concept_inversion": ConceptInversion(images=2, initialiser="shape", steps=2, batch=2),
    "relearning": Relearning(images=2, rank=2, steps=2, batch=2, lr=0.01),
    "relearning_weights": Relearning(images=2, train="cross-attn", steps=2, batch=2, lr=0.01),
    "latent_start": LatentStart(strength=0.5),
    "sampler_shift": SamplerShift(attempts=1),
    "black_box": BlackBox(kinds=("negation", "composition", "misspelling"), attempts=1),
    "ring_a_bell": RingABell(population=4, generations=2, length=2, readable=True),
}
REFUSED = {
    "unlearndiffatk": {"dit": "reads no text", "sana": "inside a longer text"},
    "p4d_n": {"dit": "reads no text", "sana": "inside a longer text"},
    "p4d_k": {"dit": "reads no text", "sana": "inside a longer text"},
    "concept_inversion": {"dit": "reads no text"},
    "black_box": {"dit": "reads no text"},
    "ring_a_bell": {"dit": "no text encoder"},
}


class Tiny:
    """A family's backbone, and a victim: its attention weights moved."""

    def __init__(self, family):
        make = tiny_infinity.make if family == "infinity" else TINY[family].make
        self.backbone = make(steps=4 if family == "infinity" else 2)
        self.concept = CLASSES if family == "dit" else RED
        self.weights = Weights.copy(self.backbone, choose(self.backbone, "cross-attn"))
        for value in self.weights.values:
            value.data += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)).to(value)

    def draw(self, prompts):
        settings = self.backbone.settings
        run = {"steps": settings.steps, "guidance": settings.guidance}
        return self.backbone.sample(self.backbone.encode(prompts), seeds=list(range(len(prompts))), **run)


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request):
    made = Tiny(request.param)
    made.family = request.param
    return made


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack(tiny, name, tmp_path):
    attack, backbone, concept = ATTACKS[name], tiny.backbone, tiny.concept
    victim = Victim(tiny.weights, sees=lambda pictures, prompts: [False] * len(pictures))
    if says := REFUSED.get(name, {}).get(tiny.family):
        with pytest.raises(ValueError, match=says):
            attack.search(backbone, concept, seed=0, victim=victim)
        return
    if name == "sampler_shift" and not attack.shifts(backbone):
        with pytest.raises(ValueError, match="one way only"):
            attack.search(backbone, concept, seed=0, victim=victim)
        return
    before = tiny.draw(list(concept.prompts))
    attempt = attack.search(backbone, concept, seed=0, victim=victim)
    assert isinstance(attempt, Attempt) and len(attempt.prompts) == len(attempt.found) > 0
    assert all(one.start in (*concept.prompts, *concept.neutral) for one in attempt.found)
    with victim.attach(backbone):
        plain = tiny.draw(list(attempt.starts)[:2])
        with attempt.intervention.attach(backbone):
            pictures = tiny.draw(list(attempt.prompts)[:2])
    assert pictures.shape == plain.shape and pictures.isfinite().all()
    assert not torch.equal(pictures, plain)
    assert torch.equal(tiny.draw(list(concept.prompts)), before)
    save(attempt.intervention, tmp_path)
    again = load(tmp_path)
    with victim.attach(backbone), again.attach(backbone):
        assert torch.equal(tiny.draw(list(attempt.prompts)[:2]), pictures)


def test_a_search_repeats_and_other_seeds_find_otherwise():
    tiny = Tiny("unet")
    for name in ("unlearndiffatk", "p4d_n"):
        first, again, other = (ATTACKS[name].search(tiny.backbone, RED, seed=seed) for seed in (0, 0, 1))
        assert first.prompts == again.prompts and first.prompts != other.prompts
