"""Every class of params/methods/ on every tiny family: it changes the network, leaves it and comes back, or is refused.

A new method's file is found by its class. What does not fit a family is listed in REFUSED with what it says.
"""

import dataclasses

import pytest
import torch

from stages.interventions import Stack, load, save
from stages.interventions.adapter import Adapter
from stages.interventions.guidance import PromptGuidance
from stages.interventions.lowrank import LowRank, linear_layers
from stages.params import load_params, names
from stages.params.concept import Concept
from stages.params.layers import untuned
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES as TINY
from tests.methods.cut_down import small

FAMILIES = ["unet", "xl", "sd3", "flux-dev", "dit", "pixart", "sana", "cogvideox-2b", "wan", "infinity"]
SETTINGS = {  # what a method's settings for the small U-Net would not fit elsewhere
    "minimalist": {"linear": ".*", "start": 0.05, "lr": 0.5, "keep_every": 0},
    "activation_transport": {"layers": ("cross_attn", "attn")},
    "safree": {"alpha": 0.0},
    "circuit_breaker": {"target_layers": (0, 1)},
    "casteer": {"action": "add"},  # on a random network no token may lie on the side that is erased
    "textual_inversion_random": {"alias": "circle", "initialiser": "shape"},
}
PREFERRED = {"textual_inversion_random", "sld_medium"}  # of a class whose other files change little
ELSEWHERE = {
    "stages.methods.none.NoMethod": "changes nothing: tests/interventions/test_interventions.py",
    "stages.methods.oracle.Oracle": "trains a backbone of the world of shapes: tests/params/test_study.py",
    "stages.methods.binarized.Binarized": "takes the masks of a finished run: tests/entries/test_merging.py",
}


def tuned_on(name):
    """A small world that the method is tuned on."""
    return next(on for on in ("pixart-shapes", "sd3-shapes", "infinity-shapes") if not untuned("methods", name, on))


def one_of_each_class():
    """A name of params/methods/ by class, but for those that are tested elsewhere: the module's own if it has one."""
    by_class = {}
    for name in names("methods"):
        cls = load_params("methods", name)["class"]
        rank = (name not in PREFERRED, name != cls.split(".")[-2], name)
        by_class[cls] = min(by_class.get(cls, rank), rank)
    return sorted(name for cls, (*_, name) in by_class.items() if cls not in ELSEWHERE)


METHODS = one_of_each_class()
GUIDANCE = {
    "sld_medium",
    "negative_prompt",
    "safree",
    "flowedit",
    "videoeraser",
}  # change samples only: `predict` is not guided
SINGLE = {"pixart", "sana", "wan", "infinity"}  # where gradients cannot pass the sampler
CLASSES = {"dit": "knows classes"}
NO_FLOW = dict.fromkeys(["unet", "xl", "dit", "pixart", "cogvideox-2b", "infinity"], "the velocity of a flow")
REFUSED = {
    "receler": CLASSES,
    "eap": CLASSES,
    "uce": CLASSES,
    "rece": CLASSES,
    "safree": {"dit": "has no tokens"},
    "textual_inversion_random": {"dit": "reads no text"},
    "s_vare": dict.fromkeys([name for name in FAMILIES if name != "infinity"], "predicts no bits"),
    "flowedit": NO_FLOW,
    "negative_prompt": {"flux-dev": "is told its guidance"},
    "word_filter": CLASSES,
    "neutral_rewrite": CLASSES,
    "random_weights": CLASSES,
    "speed": CLASSES,
    "advunlearn": CLASSES,
    "gem": {"infinity": "no denoising run to stop half way"},
    "spm": CLASSES,
    "videoeraser": {"dit": "has no tokens"},
    "mace": CLASSES | {"infinity": "trains on noised pictures"},
}
PROMPTS = ["a red circle", "a blue square"]
RED = Concept("red", ("a red circle", "a red square"), ("a blue circle", "a blue square"), ("a green circle",))


class Tiny:
    """A family's backbone, what it gives with nothing attached, and the methods fitted on it so far."""

    def __init__(self, family):
        make = tiny_infinity.make if family == "infinity" else TINY[family].make
        self.family, self.backbone = family, make(steps=4 if family == "infinity" else 2)
        self.backbone.gather(PROMPTS[:1], 0)
        self.state = self.backbone.draw(self.backbone.encode(PROMPTS[:1]), torch.Generator().manual_seed(0))
        self.plain, self.fits = self.look(), {}

    def look(self):
        """A sample and a prediction."""
        condition, steps = self.backbone.encode(PROMPTS), self.backbone.settings.steps
        sample = self.backbone.sample(condition, seeds=[1, 2], steps=steps, guidance=3.0)
        with torch.no_grad():
            return sample, self.backbone.predict(self.state, condition.rows([0]))

    def attached(self, *parts):
        with Stack(*parts).attach(self.backbone):
            return self.look()

    def fit(self, name):
        if name not in self.fits:
            self.fits[name] = self.method(name).fit(self.backbone, RED, seed=0)
        return self.fits[name]

    def method(self, name):
        through = {"through": "state" if self.family in SINGLE else "run"} if name == "minimalist" else {}
        return dataclasses.replace(small(name, tuned_on(name)), **SETTINGS.get(name, {}) | through)


@pytest.fixture(scope="module")
def tiny():
    """A family's backbone by name, made when first asked for."""
    known = {}

    def make(family):
        if family not in known:
            known[family] = Tiny(family)
        return known[family]

    return make


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_on_a_family(tiny, name, family, tmp_path):
    on = tiny(family)
    if family in REFUSED.get(name, {}):
        with pytest.raises(ValueError, match=REFUSED[name][family]) as refusal:
            on.attached(on.fit(name))  # some are only refused once they sample
        assert "\n" not in str(refusal.value)
        assert same(on.look(), on.plain)
        return
    fitted = on.fit(name)
    assert same(on.look(), on.plain)
    edited = on.attached(fitted)
    assert all(torch.isfinite(value).all() for value in edited)
    assert not torch.equal(edited[0], on.plain[0]) if name in GUIDANCE else not same(edited, on.plain)
    assert same(on.look(), on.plain)
    save(fitted, tmp_path)
    assert same(on.attached(load(tmp_path)), edited)


def adapter(backbone):
    made = Adapter.fresh(backbone, backbone.select("cross_attn", "attn", stream="image"), 2, seed=0)
    draws = torch.Generator().manual_seed(1)
    for layer in made.layers:
        layer.up.weight.data = 0.1 * torch.randn(layer.up.weight.shape, generator=draws)
    return made


def lora(backbone):
    draws = torch.Generator().manual_seed(2)
    return LowRank.create(backbone, linear_layers(backbone, [0, 1]), 2, draws, spread=0.1)


def guidance(backbone):
    return PromptGuidance("a green circle", 0.7)


@pytest.mark.parametrize("partner", [adapter, lora, guidance], ids=lambda partner: partner.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_attached_together_with_another(tiny, name, partner):
    on = tiny({"s_vare": "infinity", "flowedit": "sd3"}.get(name, "unet"))
    ours, theirs = on.fit(name), partner(on.backbone)
    alone = [on.attached(ours)[0], on.attached(theirs)[0]]
    for parts in ((ours, theirs), (theirs, ours)):
        both = on.attached(*parts)[0]
        assert torch.isfinite(both).all()
        assert not any(torch.equal(both, one) for one in [on.plain[0], *alone])
        assert same(on.look(), on.plain)


def test_the_tokens_of_sana_are_those_of_the_rows_that_its_pipeline_keeps(tiny):
    backbone, read = tiny("sana").backbone, []
    handle = backbone.texts.encoders()["text_encoder"].register_forward_pre_hook(
        lambda _, args: read.append(args[0][0].tolist())
    )
    try:
        prompts = ["a red circle", ""]
        masks = backbone._encode(prompts)["mask"]
    finally:
        handle.remove()
    length = masks.shape[1]
    for ids, whole, mask in zip(backbone.texts.tokenize(prompts), read, masks, strict=True):
        kept = [whole[0], *whole[-length + 1 :]]
        assert ids == [token for token, real in zip(kept, mask.tolist(), strict=True) if real]
