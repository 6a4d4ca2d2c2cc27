"""Masks on every family: found by the site table, exact when folded, and trained through every step of the sampler."""

from dataclasses import replace

import pytest
import torch

from stages.control.sites import Site
from stages.interventions.masks.binarize import binarized
from stages.interventions.masks.fold import folded
from stages.interventions.masks.mask import Mask, replayable
from stages.interventions.masks.places import family_of, find_places, sizes
from stages.methods import load_method
from stages.methods.flowedit import FlowEdit
from stages.methods.minimalist import Minimalist, references
from stages.params.concept import Concept
from stages.reading.unroll import Replay, unroll
from stages.seeds import pool

NAMES = ("xl", "sd35", "flux-schnell", "dit", "pixart-ddim", "sana-euler", "cogvideox-2b")


def random_mask(backbone, family, mode):
    places = find_places(backbone, [family])
    mask = Mask.fresh(sizes(backbone, places), places, mode, start=0.0, noise=0.5)
    generator = torch.Generator().manual_seed(0)
    for score in mask.parameters():
        score.data = torch.randn(score.shape, generator=generator) + 0.5
    return mask


@pytest.mark.parametrize("family", ["heads", "hidden", "norm", "linear"])
@pytest.mark.parametrize("name", NAMES)
def test_binary_masks_fold_into_the_weights_of_every_family(made, query, name, family):
    backbone = made(name)
    state, condition = query(backbone)
    try:
        mask = binarized(random_mask(backbone, family, "thresholded"))
    except ValueError as refusal:
        assert family == "norm" and name in ("pixart-ddim", "sana-euler"), refusal  # theirs have no weights
        return
    plain = backbone.predict(state, condition)
    with mask.attach(backbone):
        expected = backbone.predict(state, condition)
    assert not torch.allclose(expected, plain)
    with folded(mask, backbone).attach(backbone):
        torch.testing.assert_close(backbone.predict(state, condition), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(backbone.predict(state, condition), plain)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_steps_equal_those_of_the_whole_graph(made, query, name):
    backbone = made(name)
    _, condition = query(backbone)
    mask = random_mask(backbone, "hidden", "hard_concrete")
    run = Replay(backbone, condition, seeds=[0, 1], steps=3, guidance=backbone.settings.guidance)

    def step(index, latent):
        with mask.noisy(replayable(0)), mask.attach(backbone):
            return run(index, latent)

    whole = start = backbone.noise([0, 1])
    for index in range(3):
        whole = step(index, whole)
    final = unroll(step, 3, start, mask.parameters())
    assert torch.equal(final, whole)
    pairs = [torch.autograd.grad(end.square().mean(), list(mask.parameters())) for end in (final, whole)]
    for own, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("steps", [4, 3])
def test_references_and_runs_share_the_noise_of_every_step(made, steps):
    backbone, prompt = made("xl-turbo"), "a red circle"
    backbone.trajectories.pools.pop(prompt, None)
    found = references(backbone, [prompt], 2, steps, seed=5)[prompt]  # 4 steps: from the pool
    assert found.seeds == pool(5, 2)
    start, final = found.latents.unbind(1)

    def taken(seeds):
        call = {"steps": steps, "guidance": backbone.settings.guidance}
        run = Replay(backbone, backbone.encode([prompt] * 2), seeds=seeds, **call)
        latents = [start]
        for index in range(steps):
            latents.append(run(index, latents[-1]))
        again = [run(index, latents[index]) for index in reversed(range(steps))]
        assert all(torch.equal(a, b) for a, b in zip(reversed(again), latents[1:], strict=True))
        return latents[-1]

    assert torch.equal(taken(found.seeds), final)
    assert not torch.allclose(taken([1, 2]), final)


def test_joint_attention_shares_a_mask_and_norms_are_the_texts(made):
    backbone = made("flux-schnell")
    places = find_places(backbone, ["heads", "hidden", "norm"])
    assert {site.stream for site in places["0.attn.heads"]} == {"image", "text"}
    joint, fused = len(backbone.net.transformer_blocks), len(backbone.net.single_transformer_blocks)
    assert len([name for name in places if name.endswith(".heads")]) == joint + fused
    assert len([name for name in places if ".hidden" in name]) == 2 * joint + fused
    assert [name for name in places if ".norm" in name] == [f"{i}.norm.out@text" for i in range(joint)]


@pytest.mark.parametrize("target", ["neutral", "flowedit"])
def test_minimalist_fits_where_text_and_image_are_joint(made, target):
    concept = Concept("red", ("a red circle",), ("a circle",), ("a blue circle",))
    method = Minimalist(steps=1, batch=1, seeds=1, sampler_steps=2, start=0.0, target=target)
    mask = method.fit(made("flux-schnell"), concept, seed=0)
    assert all((score != 0).any() for score in mask.scores)


def test_the_released_preset_aims_at_pictures_edited_with_the_released_settings(made, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "stages.methods.minimalist.load_method", lambda *names, **how: asked.append(names) or FlowEdit()
    )
    method = load_method("minimalist_released", "flux-schnell")
    concept = Concept("red", ("a red circle",), ("a circle",), ("a blue circle",))
    replace(method, steps=1, accumulate=1, sampler_steps=2, start=0.0).fit(made("flux-schnell"), concept, seed=0)
    assert asked == [("flowedit", "tiny")]
    edits = load_method("flowedit", "flux-schnell")
    assert (edits.first, edits.steps_of, edits.source_guidance, edits.target_guidance) == (24, 28, 1.5, 5.5)


def test_only_flows_have_a_target_of_flowedit(made):
    concept = Concept("red", ("a red circle",), ("a circle",), ("a blue circle",))
    with pytest.raises(ValueError, match="velocity of a flow"):
        Minimalist(steps=1, seeds=1, target="flowedit").fit(made("xl"), concept, seed=0)
    with pytest.raises(ValueError, match="edit: none makes a Identity, not an edit of samples; take flowedit"):
        Minimalist(steps=1, seeds=1, target="flowedit", edit="none").fit(made("sd3"), concept, seed=0)


def test_a_place_that_no_family_masks_is_refused():
    with pytest.raises(ValueError, match=r"no family of masks has the place 0\.attn\.out"):
        family_of([Site(0, "attn")])
