"""Minimalist masks: identities, replayed noise, step-wise gradients and their memory, binarization, folding, files."""

import dataclasses

import pytest
import torch

from stages.bench import saved_elements
from stages.control.sites import Tap
from stages.interventions import load, save
from stages.interventions.masks.binarize import above, binarized, merge, top
from stages.interventions.masks.fold import folded
from stages.interventions.masks.mask import Mask, replayable
from stages.interventions.masks.places import family_of, find_places, sizes
from stages.interventions.masks.released import call_order, read_released
from stages.interventions.weights import fold
from stages.methods.binarized import Binarized, first_below
from stages.methods.minimalist import Minimalist
from stages.objectives import erase_and_preserve, hard_concrete, keep_gap, masked, open_probability
from stages.reading.unroll import Replay, unroll
from stages.store.record import recording

FAMILIES = ("heads", "hidden", "norm", "linear")
CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}
SMALL = Minimalist(steps=2, batch=2, seeds=2, sampler_steps=2, beta=0.5, start=1.0)


def random_mask(backbone, families, mode, seed=0):
    places = find_places(backbone, families)
    mask = Mask.fresh(sizes(backbone, places), places, mode, start=0.0, noise=0.5)
    generator = torch.Generator().manual_seed(seed)
    for score in mask.parameters():
        score.data = torch.randn(score.shape, generator=generator) + 1
    return mask


def sample(backbone):
    return backbone.sample(backbone.encode(["a red circle", "a blue square"]), **CALL)


# equations


def test_a_gate_is_exactly_closed_or_open_beyond_the_reach_of_its_noise():
    uniform = torch.linspace(0, 1 - 1e-6, 50)
    assert (hard_concrete(torch.tensor(3.1), uniform) == 1).all()
    assert (hard_concrete(torch.tensor(-3.1), uniform) == 0).all()
    middle = hard_concrete(torch.tensor(0.0), torch.tensor([0.5]))
    assert middle.item() == pytest.approx(0.5)


def test_open_probability_is_that_of_the_hard_concrete():
    score = torch.tensor([-2.0, 0.0, 1.5])
    uniform = torch.rand(200_000, 1, generator=torch.Generator().manual_seed(0))
    share = (hard_concrete(score, uniform, noise=1e-8) > 0).float().mean(0)
    torch.testing.assert_close(share, open_probability(score), atol=5e-3, rtol=0)


def test_losses_equal_their_closed_forms():
    final, wanted = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.zeros(2, 2)
    assert erase_and_preserve(final, wanted, 1, 0.5).item() == 5 + 0.5 * 4
    assert erase_and_preserve(final, wanted, 2, 0.5).item() == 4.5
    assert keep_gap(torch.tensor([0.0, 1.0]), 0.75).item() == 0.0625


def test_masked_groups_channels_by_heads():
    assert masked(torch.ones(1, 6), torch.tensor([2.0, 3.0])).tolist() == [[2, 2, 2, 3, 3, 3]]


# masks on a network


@pytest.mark.parametrize("family", FAMILIES)
def test_open_masks_and_strength_zero_change_nothing_bitwise(backbone, family):
    plain = sample(backbone)
    mask = random_mask(backbone, [family], "sigmoid")
    mask.strength = 0.0
    with mask.attach(backbone):
        assert torch.equal(sample(backbone), plain)
    ones = mask.with_scores({name: torch.ones_like(score) for name, score in mask.items()}, "binary")
    with ones.attach(backbone):
        assert torch.equal(sample(backbone), plain)
    mask.strength = 1.0
    with mask.attach(backbone):
        assert not torch.allclose(sample(backbone), plain)
    assert torch.equal(sample(backbone), plain)


def test_noise_is_replayed_by_seed_step_and_name():
    draw = replayable(3)
    assert torch.equal(draw("a", 0, 5), replayable(3)("a", 0, 5))
    others = [replayable(4)("a", 0, 5), draw("b", 0, 5), draw("a", 1, 5)]
    assert not any(torch.equal(draw("a", 0, 5), other) for other in others)


def test_noise_changes_from_step_to_step_and_returns(backbone):
    mask = random_mask(backbone, ["hidden"], "hard_concrete")
    name = mask.names[0]
    with mask.noisy(replayable(0)):
        first, second, again = (mask.mask(name, step) for step in (0, 1, 0))
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert not torch.equal(mask.mask(name, 0), first)


def test_masks_of_every_mode_are_saved_and_loaded(backbone, tmp_path):
    for mode in ("sigmoid", "hard_concrete", "binary", "thresholded"):
        mask = random_mask(backbone, FAMILIES, mode)
        mask.kept = {5: {name: score.detach() + 1 for name, score in mask.items()}}
        with mask.attach(backbone):
            edited = sample(backbone)
        save(mask, tmp_path / mode)
        found = load(tmp_path / mode)
        with found.attach(backbone):
            assert torch.equal(sample(backbone), edited)
        assert found.spec() == mask.spec() and list(found.kept) == [5]
        assert not any(score.requires_grad for score in found.parameters())


def test_what_a_mask_cannot_be_is_said(backbone):
    with pytest.raises(ValueError, match="mode must be one of"):
        Mask({}, {}, "hard")
    with pytest.raises(ValueError, match="nothing to mask as linear"):
        find_places(backbone, ["linear"], "nothing")
    with (
        pytest.raises(KeyError, match=r"has no module 'no\.such'"),
        Mask({"m": torch.ones(1)}, {"m": [Tap("no.such")]}).attach(backbone),
    ):
        pass


# backpropagation by steps


def final_latent(backbone, mask, steps, whole=False, again=0):
    condition = backbone.encode(["a red circle", "a blue square"])
    run = Replay(backbone, condition, seeds=[1, 2], steps=steps, guidance=2.0)

    def under(noise, index, latent):
        with mask.noisy(replayable(noise)), mask.attach(backbone):
            return run(index, latent)

    start = backbone.noise([1, 2])
    if whole:
        for index in range(len(run)):
            start = under(0, index, start)
        return start
    return unroll(lambda i, z: under(0, i, z), len(run), start, mask.parameters(), lambda i, z: under(again, i, z))


@pytest.mark.parametrize("mode", ["sigmoid", "hard_concrete"])
def test_gradients_by_steps_equal_those_of_the_whole_graph(backbone, mode):
    mask = random_mask(backbone, FAMILIES, mode)
    finals = [final_latent(backbone, mask, 4, whole) for whole in (False, True)]
    assert torch.equal(*finals)
    by_steps, whole = (torch.autograd.grad(final.square().mean(), list(mask.parameters())) for final in finals)
    for own, theirs in zip(by_steps, whole, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-9)
    assert all(parameter.grad is None for parameter in backbone.net.parameters())


def test_fresh_noise_in_the_backward_pass_gives_other_gradients(backbone):
    mask = random_mask(backbone, ["hidden"], "hard_concrete")
    parameters = list(mask.parameters())
    replayed, fresh = (final_latent(backbone, mask, 3, again=noise) for noise in (0, 1))
    assert torch.equal(replayed, fresh)
    pairs = [torch.autograd.grad(final.square().mean(), parameters) for final in (replayed, fresh)]
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(*pairs, strict=True))


def peak(backbone, mask, steps, whole=False):
    """Elements that autograd keeps at most."""

    def gradient():
        final = final_latent(backbone, mask, steps, whole)
        torch.autograd.grad(final.square().mean(), list(mask.parameters()))

    return saved_elements(gradient)


def test_memory_does_not_grow_with_the_number_of_steps(backbone):
    mask = random_mask(backbone, ["hidden", "norm"], "hard_concrete")
    peaks = {steps: peak(backbone, mask, steps) for steps in (4, 8, 16, 32)}
    latent = backbone.noise([1, 2]).numel()
    for steps, found in peaks.items():
        assert found - peaks[4] <= latent * (steps - 4)  # the kept latents, nothing else
    assert peaks[32] < 1.1 * peaks[4]
    assert peak(backbone, mask, 8, whole=True) > 6 * peaks[8]


def test_solvers_with_a_history_are_refused(backbone):
    from diffusers import DPMSolverMultistepScheduler

    backbone.scheduler = DPMSolverMultistepScheduler.from_config(backbone.scheduler.config)
    with pytest.raises(ValueError, match="history of steps"):
        Replay(backbone, backbone.encode(["a red circle"]), seeds=[0], steps=3, guidance=1.0)


# the method


def test_gradients_reach_the_scores_alone_and_a_fit_repeats(backbone, concept):
    before = {name: value.clone() for name, value in backbone.net.state_dict().items()}
    first, second = (SMALL.fit(backbone, concept, seed=0) for _ in range(2))
    assert all(torch.equal(value, backbone.net.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = SMALL.fit(backbone, concept, seed=1)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert all((score != SMALL.start).any() for score in first.parameters())


@pytest.mark.parametrize("through", ["run", "state"])
def test_the_loss_falls(backbone, concept, through, tmp_path):
    method = dataclasses.replace(SMALL, through=through, mode="sigmoid", steps=12, lr=0.3, batch=4, beta=0.0)
    with recording(tmp_path, "train", params={}) as record:
        mask = method.fit(backbone, concept, seed=0)
    losses = record.curves["minimalist"]["loss"]
    assert mask.mode == "sigmoid" and len(losses) == 12
    assert sum(losses[-4:]) < sum(losses[:4])


def test_sparsity_pulls_the_share_of_open_masks_to_its_target(backbone, concept):
    method = dataclasses.replace(SMALL, steps=6, sparsity=100.0, keep=0.2)
    closed, free = (m.fit(backbone, concept, seed=0) for m in (method, dataclasses.replace(method, sparsity=0.0)))
    mean = [torch.cat(list(mask.parameters())).mean().item() for mask in (closed, free)]
    assert mean[0] < mean[1] - 0.5


def test_values_are_kept_on_the_way(backbone, concept):
    mask = dataclasses.replace(SMALL, steps=4, keep_every=2).fit(backbone, concept, seed=0)
    assert list(mask.kept) == [2, 4]
    assert all(torch.equal(mask.kept[4][name], score) for name, score in mask.items())


# binarization


def test_a_ratio_that_keeps_less_than_one_keeps_none():
    scores = [torch.arange(24.0)]
    assert top(scores, 0.04)[0].sum() == 0
    assert top(scores, 0.0, "global")[0].sum() == 0
    assert top(scores, 1 / 24)[0].tolist() == [0.0] * 23 + [1.0]


def test_scopes_rank_layers_families_or_everything(backbone):
    mask = random_mask(backbone, ["hidden", "norm"], "thresholded")
    for score in mask.scores[:1]:
        score.data -= 10
    local, whole, across = (binarized(mask, scope, 0.5) for scope in ("local", "global", "across"))
    assert all(score.sum() == score.numel() // 2 for _, score in local.items())
    assert dict(whole.items())[mask.names[0]].sum() == 0
    for made, groups in ((whole, ("hidden", "norm")), (across, (None,))):
        for family in groups:
            names = [n for n in made.names if family in (None, family_of(made.places[n]))]
            values = torch.cat([dict(made.items())[n] for n in names])
            assert values.sum() == values.numel() // 2
    by_family = binarized(mask, "local", {"hidden": 1.0})
    for name, score in by_family.items():
        expected = (
            torch.ones_like(score) if family_of(mask.places[name]) == "hidden" else above([dict(mask.items())[name]])[0]
        )
        assert torch.equal(score, expected)


def test_merging_removes_what_either_removes(backbone):
    first, second = (binarized(random_mask(backbone, ["hidden"], "thresholded", seed)) for seed in (0, 1))
    for name, score in merge([first, second]).items():
        assert torch.equal(score, dict(first.items())[name] * dict(second.items())[name])
    with pytest.raises(ValueError, match="only binary masks"):
        merge([first, random_mask(backbone, ["hidden"], "thresholded")])


def test_selection_stops_at_the_first_checkpoint_that_erases_enough(backbone, concept):
    asked = []
    scores = [0.9, 0.4, 0.1]
    assert first_below((asked.append(v) or v for v in scores), 0.5) == (1, 0.4) and asked == [0.9, 0.4]
    assert first_below(scores, 0.0) == (2, 0.1)
    mask = dataclasses.replace(SMALL, steps=4, keep_every=2).fit(backbone, concept, seed=0)
    mask.kept[2] = {name: torch.zeros_like(score) for name, score in mask.items()}
    eager = Binarized(stop=1.0, seeds=1).apply(mask, backbone, concept, 0)
    last = Binarized().apply(mask, backbone, concept, 0)
    assert eager.mode == last.mode == "binary"
    assert all(torch.equal(score, (dict(mask.items())[name] > 0).float()) for name, score in last.items())


# folding


@pytest.mark.parametrize("family", FAMILIES)
def test_a_binary_mask_folds_into_weights_exactly(backbone, family):
    mask = binarized(random_mask(backbone, [family], "thresholded"))
    assert 0 < sum(float(score.sum()) for _, score in mask.items()) < sum(score.numel() for _, score in mask.items())
    with mask.attach(backbone):
        masked_pictures = sample(backbone)
    with folded(mask, backbone).attach(backbone):
        assert torch.equal(sample(backbone), masked_pictures)


def test_a_folded_backbone_is_an_ordinary_checkpoint(backbone, tmp_path):
    mask = binarized(random_mask(backbone, FAMILIES, "thresholded"))
    with mask.attach(backbone):
        expected = sample(backbone)
    fold(folded(mask, backbone), backbone)
    backbone.save(tmp_path / "erased")
    settings = dataclasses.replace(backbone.settings, path=str(tmp_path / "erased"))
    assert torch.allclose(sample(type(backbone).load("erased", settings)), expected, atol=1e-6)


def test_a_noisy_mask_cannot_be_folded(backbone):
    with pytest.raises(ValueError, match="binarize it first"):
        folded(random_mask(backbone, ["hidden"], "hard_concrete"), backbone)


# released files


def test_lists_of_tensors_get_names_in_order_of_calls(backbone, tmp_path):
    mask = random_mask(backbone, ["heads", "hidden", "linear"], "thresholded")
    condition = backbone.encode(["a red circle"])
    run = Replay(backbone, condition, seeds=[0], steps=1, guidance=1.0)

    def forward():
        return run(0, backbone.noise([0]))

    values = dict(mask.items())
    linear = call_order(backbone.net, [n for n in mask.names if family_of(mask.places[n]) == "linear"], forward)
    registered = [n for n in mask.names if n in linear]
    assert linear != registered and set(linear) == set(registered)
    groups = {
        "attn": [n for n in mask.names if family_of(mask.places[n]) == "heads"],
        "ff": [n for n in mask.names if family_of(mask.places[n]) == "hidden"],
        "linear": linear,
    }
    for key, names in groups.items():
        torch.save([values[name].detach() for name in names], tmp_path / f"{key}.pt")
    found = read_released({key: tmp_path / f"{key}.pt" for key in groups}, backbone, forward)
    assert all(torch.equal(score, values[name]) for name, score in found.items())
    torch.save([torch.ones(3)], tmp_path / "short.pt")
    with pytest.raises(ValueError, match=r"short\.pt: 1 masks for"):
        read_released({"ff": tmp_path / "short.pt"}, backbone)
    torch.save({"a": object}, tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match="not a list of tensors"):
        read_released({"ff": tmp_path / "pickled.pt"}, backbone)
