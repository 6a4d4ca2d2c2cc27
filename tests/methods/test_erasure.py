"""What each trained erasure promises: equal values, more harm found, student states, resumed runs, clear refusals."""

import dataclasses
import functools

import pytest
import torch

from stages.interventions.masks.mask import Mask
from stages.interventions.masks.places import find_places, sizes
from stages.interventions.weights import Weights
from stages.methods.concept_ablation import ConceptAblation
from stages.methods.eap import EAP, Mixture
from stages.methods.esd import ESD
from stages.methods.minimalist import Minimalist
from stages.methods.rece import RECE
from stages.methods.receler import Receler
from stages.methods.s_vare import SVARE
from stages.methods.shared.adversary import Adversary
from stages.methods.shared.base import frozen, partial
from stages.methods.shared.text_inputs import paired_tokens, text_inputs
from stages.methods.shared.trained_weights import choose
from stages.methods.t2vunlearning import T2VUnlearning
from stages.methods.textual_inversion import TextualInversion
from stages.methods.uce import UCE, gather_rows
from stages.params.concept import Concept
from stages.seeds import Purpose, generator
from tests.backbones.families import FAMILIES
from tests.methods.interrupted import interrupted

step_generator = functools.partial(generator, Purpose.STEP)


@pytest.fixture
def wide():
    """A concept with the tokens of its prompts and of their twins in different places."""
    return Concept(
        "red", ("a red circle", "a photo of a red cross"), ("a circle", "a photo of a cross"), ("a blue disc",)
    )


def errors(backbone, weights, edits, kept):
    """How far each edited weight is from its targets, and from itself on what is kept."""
    wrong, moved = 0.0, 0.0
    for name, value in weights.items():
        old = backbone.addresses.parameter(name)
        wrong = max(wrong, *(float((rows @ value.T - target @ old.T).abs().max()) for rows, target in edits[name]))
        moved = max(moved, *(float((rows @ (value - old).T).abs().max()) for rows in kept[name]))
    return wrong, moved


@pytest.mark.parametrize("tokens", ["last", "range", "aligned"])
def test_uce_maps_the_concept_to_its_neutral_twin_as_the_ridge_vanishes(backbone, wide, tokens):
    edits, kept = gather_rows(backbone, backbone.addresses.readers(), wide, tokens)
    strong, weak = (UCE(tokens, preserve=0.0, ridge=r).fit(backbone, wide, seed=0) for r in (1e-6, 1e6))
    close, _ = errors(backbone, strong, edits, kept)
    far, _ = errors(backbone, weak, edits, kept)
    assert close < far / 20 if tokens == "last" else close < far
    held = UCE(tokens, preserve=1e6, ridge=1e-6).fit(backbone, wide, seed=0)
    assert errors(backbone, held, edits, kept)[1] < 1e-3


@pytest.mark.parametrize(
    "method",
    [
        ESD(train="full", states="frozen", steps=10, lr=1e-3, preserve=20.0),
        ConceptAblation(train="full-weight", states="trajectory", prior=0.0, steps=10, lr=1e-3, preserve=20.0),
        Receler(rank=8, localise=0.0, states="frozen", slots=2, inner=1, steps=10, lr=1e-2, preserve=20.0),
        T2VUnlearning(rank=8, localise=0.0, states="trajectory", steps=10, lr=1e-2, preserve=20.0),
    ],
)
def test_the_empty_prompt_moves_less_where_it_is_preserved(backbone, concept, method):
    moved = []
    for empty in (0, 20):
        edit = dataclasses.replace(method, empty=empty, batch=4).fit(backbone, concept, seed=0)
        backbone.gather([""], 0)
        condition = backbone.encode([""]).repeat(8)
        state = backbone.draw(condition, step_generator(0, 0))
        before = frozen(backbone, state, condition)
        with edit.attach(backbone):
            moved.append(float((frozen(backbone, state, condition) - before).square().mean()))
    assert 0 < moved[1] < 0.9 * moved[0]


def test_masks_aim_beyond_the_neutral_prediction_by_as_much_as_they_are_pushed(backbone, concept):
    places = find_places(backbone, ["hidden"])
    mask = Mask.fresh(sizes(backbone, places), places, "hard_concrete", start=100.0, noise=0.5)  # open: changes nothing
    method = Minimalist(through="state", batch=3, beta=0.0)
    plain, pushed = (
        dataclasses.replace(method, push=push).over_states(backbone, concept, mask, 0)(0, step_generator(0, 0))
        for push in (0.0, 2.0)
    )
    assert plain > 0
    torch.testing.assert_close(pushed, 9 * plain)  # (c - (n - 2 (c - n)))^2 = (3 (c - n))^2
    with pytest.raises(ValueError, match="choose through: state"):
        Minimalist(push=1.0).fit(backbone, concept, seed=0)


def test_rece_aims_as_far_beyond_the_neutral_twin_as_uce(backbone, wide):
    still = RECE(
        rounds=1, target="neutral", tokens="aligned", push=1.0, ridge=1e9, first_ridge=0.5
    )  # rounds do nothing
    found = dict(still.fit(backbone, wide, seed=0).items())
    plain, pushed = (UCE("aligned", push=push, ridge=0.5).fit(backbone, wide, seed=0) for push in (0.0, 1.0))
    for (name, value), (_, other) in zip(pushed.items(), plain.items(), strict=True):
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0)
        assert (value - other).abs().max() > 1e-2


def test_rece_may_bring_the_concept_back_unless_it_holds_what_is_erased(backbone, wide):
    first = dict(UCE("aligned", ridge=0.1).fit(backbone, wide, seed=0).items())
    edits, _ = gather_rows(backbone, list(first), wide, "aligned")
    moved = {}
    for target in ("neutral", "erased"):
        method = RECE(rounds=2, target=target, tokens="aligned", preserve=1e4, first_ridge=0.1)
        weights = dict(method.fit(backbone, wide, seed=0).items())
        moved[target] = max(float((key @ (weights[n] - first[n]).T).abs().max()) for n in first for key, _ in edits[n])
    assert moved["erased"] < 1e-2 < moved["neutral"]


def test_rece_leaves_less_to_revive_with_every_round(backbone, wide):
    names = backbone.addresses.readers()
    edits, _ = gather_rows(backbone, names, wide, "range")
    original = {name: backbone.addresses.parameter(name).double() for name in names}
    left = []
    for rounds in (1, 4):
        method = RECE(rounds=rounds, preserve=0.0, target="neutral")
        weights = {n: v.double() for n, v in method.fit(backbone, wide, seed=0).items()}
        found = method.search(weights, original, edits)
        values = [
            (row @ weights[n].T - key.double() @ original[n].T).norm()
            for n in names
            for (row, _), (key, _) in zip(found[n], edits[n], strict=True)
        ]
        left.append(float(sum(values)))
    assert left[1] > left[0]


def test_aligned_tokens_pair_equal_words_and_send_a_new_one_to_the_word_before():
    ours, theirs = paired_tokens([9, 1, 5, 2, 8], [9, 1, 2, 8], 7, "aligned")
    assert list(zip(ours, theirs, strict=True)) == [(0, 0), (1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5)]
    assert paired_tokens([9, 1, 5, 8], [9, 1, 6, 8], 5, "aligned")[1] == [0, 1, 2, 3, 4]
    assert paired_tokens([9, 1, 5, 2, 8], [9, 2, 8], 7, "last") == ([3], [1])
    assert paired_tokens([9, 1, 5, 2, 8], [9, 2, 8], 7, "range") == ([3, 4, 5, 6], [1, 2, 3, 4])


def test_what_weights_read_is_the_text_embedding(backbone):
    prompts = ["a red circle", ""]
    for value in text_inputs(backbone, backbone.addresses.readers(), prompts).values():
        assert torch.equal(torch.stack(value), backbone.encode(prompts).tensors["embeds"])


def test_states_of_the_student_are_those_of_the_attached_weights(backbone, concept):
    condition = backbone.encode(concept.prompts)
    weights = Weights.copy(backbone, choose(backbone, "x"))
    state = partial(backbone, condition, step_generator(0, 3), 3.0)
    assert state.step > 0
    with weights.attach(backbone):
        assert torch.equal(partial(backbone, condition, step_generator(0, 3), 3.0).latent, state.latent)
    for value in weights.values:
        value.data += 0.1
    with weights.attach(backbone):
        assert not torch.equal(partial(backbone, condition, step_generator(0, 3), 3.0).latent, state.latent)


@pytest.mark.parametrize("train", ["x", "u", "noxattn", "selfattn", "xattn_matching", "attn"])
def test_esd_trains_what_it_chose_and_nothing_else(backbone, concept, train):
    weights = ESD(train=train, steps=2, batch=2, lr=1e-3).fit(backbone, concept, seed=0)
    assert set(weights.names) == set(choose(backbone, train))
    assert weights.difference(backbone) > 0


def test_esd_with_a_source_prompt_needs_the_origin_there(backbone, concept):
    with pytest.raises(ValueError, match="origin"):
        ESD(erase_from="a circle").fit(backbone, concept, seed=0)
    ESD(erase_from="a circle", origin="source", steps=1).fit(backbone, concept, seed=0)


def test_the_choice_of_blocks_narrows_the_choice_of_weights(backbone):
    some = choose(backbone, "x", blocks=(0,))
    assert set(some) < set(choose(backbone, "x"))
    with pytest.raises(ValueError, match="no weights"):
        choose(backbone, "x", blocks=(99,))


def test_concept_ablation_comes_nearer_to_the_anchor(backbone, concept):
    backbone.gather(concept.neutral, 0)
    shown, neutral = (backbone.encode(side) for side in zip(*concept.pairs(), strict=True))
    state = backbone.draw(neutral, step_generator(0, 0))
    target = frozen(backbone, state, neutral)
    before = backbone.distance(frozen(backbone, state, shown), target)
    method = ConceptAblation(steps=25, lr=5e-3, batch=2, prior=0.0, anchor="frozen", states="trajectory")
    with method.fit(backbone, concept, seed=0).attach(backbone):
        after = backbone.distance(frozen(backbone, state, shown), target)
    assert after < before / 2
    with pytest.raises(ValueError, match="noise"):
        dataclasses.replace(method, prior=1.0).fit(backbone, concept, seed=0)


def test_the_mixture_moves_towards_more_harm(backbone, concept):
    words = ("a blue circle", "a green square", "a red circle")
    mixture = Mixture(backbone.encode(words), 1.0, False, 0.5)
    weights = Weights.copy(backbone, choose(backbone, "x"))
    for value in weights.values:
        value.data += 0.1 * torch.randn(value.shape, generator=step_generator(0, 1))
    backbone.gather(words, 0)
    uniform = torch.full((1, 3), 0.5)
    state = backbone.draw(backbone.encode(words[:1]), step_generator(0, 2))
    harms = []
    for _ in range(6):
        harm = EAP().harm(backbone, weights, state, mixture.mix(uniform))
        harms.append(float(harm.detach()))
        mixture.step(harm)
    assert harms[-1] > harms[0]


@pytest.mark.parametrize(
    "method",
    [
        Receler(rank=2, inner=2, slots=2, side=None, steps=4, lr=1e-2),
        EAP(nearest=2, steps=4, lr=1e-3, search_lr=0.1),
    ],
)
def test_a_resumed_run_ends_where_an_unbroken_one_does(backbone, concept, method, tmp_path):
    whole = method.fit(backbone, concept, seed=0).tensors()
    again = interrupted(method, backbone, concept, tmp_path, share=0.6)
    for name, value in whole.items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize(
    "method", [Receler(rank=2, inner=1, slots=2, side=None, steps=1), EAP(nearest=2, steps=1)], ids=["receler", "eap"]
)
def test_an_adversary_scales_its_loss_where_the_network_is_float16(backbone, concept, method, monkeypatch):
    asked = []

    step = Adversary.step

    def noting(self, *args, through_float16, **kwargs):
        asked.append(through_float16)
        step(self, *args, through_float16=through_float16, **kwargs)

    monkeypatch.setattr(Adversary, "step", noting)
    method.fit(backbone, concept, seed=0)
    monkeypatch.setattr(type(backbone), "through_float16", True)
    method.fit(backbone, concept, seed=0)
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (ESD(empty=1), "empty counts .* set preserve"),
        (ConceptAblation(empty=1), "empty counts .* set preserve"),
        (Receler(empty=1), "empty counts .* set preserve"),
        (T2VUnlearning(empty=1), "empty counts .* set preserve"),
        (Minimalist(masks=("hidden",), target="flowedit", through="state"), "choose through: run"),
        (Minimalist(masks=("linear",), linear="(attn"), "linear: '\\(attn' is not a regular expression"),
        (TextualInversion(templates=("a photo",)), "templates: each needs {} .*got \\['a photo'\\]"),
        (TextualInversion(templates=("a photo", "a {}")), "templates: each needs {} .*got \\['a photo'\\]$"),
        (TextualInversion(templates=()), "templates: each needs {} .*got \\(\\)$"),
        (TextualInversion(initialiser=" "), "initialiser: a word"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(backbone, concept, method, message):
    with pytest.raises(ValueError, match=message):
        method.fit(backbone, concept, seed=0)


@pytest.mark.parametrize(
    "method",
    [
        Receler(rank=4, localise=1.0, side=None, mask="attention", states="frozen", slots=2, inner=1, steps=2, lr=1e-2),
        T2VUnlearning(rank=4, mask="attention", states="trajectory", steps=2, lr=1e-2),
    ],
)
def test_what_adapters_add_elsewhere_counts_by_its_mean_or_its_sum(backbone, concept, method):
    mean, total = (
        dataclasses.replace(method, reduction=how).fit(backbone, concept, seed=0).tensors() for how in ("mean", "sum")
    )
    assert any(not torch.equal(value, total[name]) for name, value in mean.items())


def test_what_a_backbone_cannot_do_is_refused_with_the_reason(backbone, concept):
    with pytest.raises(ValueError, match="Infinity"):
        SVARE().fit(backbone, concept, seed=0)
    with pytest.raises(ValueError, match="tokens; there are"):
        Receler(side=3, steps=1, inner=1, mask="attention").fit(backbone, concept, seed=0)
    with pytest.raises(FileNotFoundError, match="missing"):
        T2VUnlearning(data="nowhere.csv").fit(backbone, concept, seed=0)


def test_a_cut_at_the_first_token_is_refused_before_anything_is_drawn_without_cross_attention(concept):
    flux, method = FAMILIES["flux-schnell"].make(), ConceptAblation(steps=1, batch=1, data="", first_token=False)
    flux.gather = None  # nothing may be drawn
    with pytest.raises(ValueError, match="first_token: false: .* has no cross-attention; leave first_token on"):
        method.fit(flux, concept, seed=0)
