"""The equations of erasure by training against their closed forms."""

import math

import pytest
import torch

from stages import objectives as eq


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_clean_latent_inverts_the_forward_process():
    clean, noise, alpha_bar = random(2, 3), random(2, 3, seed=1), torch.tensor([[0.9], [0.2]], dtype=torch.float64)
    noised = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
    torch.testing.assert_close(eq.clean_from_noise(noised, noise, alpha_bar), clean)


def test_masked_error_ignores_what_is_outside_and_counts_channels():
    prediction, target = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    target[..., 0] = 9.0
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 1] = 1
    assert eq.masked_error(prediction, target, mask) == 1
    assert eq.masked_error(prediction, target, mask, channels=False) == 4


def test_outside_averages_squares_over_the_background_of_each_site():
    output = torch.tensor([[[1.0, 3.0], [2.0, 0.0], [5.0, 5.0]]])
    mask = torch.tensor([[0.0, 0.0, 1.0]])
    assert eq.outside([output], [mask]) == pytest.approx(((1 + 9) / 2 + (4 + 0) / 2) / 2)
    assert eq.outside([output, 2 * output], [mask, mask]) == pytest.approx((3.5 + 14) / 2)
    assert eq.outside([output], [torch.ones(1, 3)]) == 0
    assert eq.outside([output], [mask], "sum") == 1 + 9 + 4


def test_edited_weight_solves_its_least_squares_problem():
    weight, keys, values = random(3, 5), random(4, 5, seed=1), random(4, 3, seed=2)
    scales = torch.tensor([1.0, 0.5, 2.0, 1.0], dtype=torch.float64)
    edited = eq.edited_weight(weight, keys, values, scales, 0.3).requires_grad_()
    loss = (scales[:, None] * (keys @ edited.T - values).square()).sum() + 0.3 * (edited - weight).square().sum()
    (gradient,) = torch.autograd.grad(loss, edited)
    assert gradient.abs().max() < 1e-12


def test_edited_weight_maps_the_key_exactly_without_a_ridge_and_not_at_all_with_a_huge_one():
    weight, keys, values = random(3, 4), random(4, 4, seed=1), random(4, 3, seed=2)
    scales = torch.ones(4)
    torch.testing.assert_close(keys @ eq.edited_weight(weight, keys, values, scales, 0.0).T, values)
    torch.testing.assert_close(eq.edited_weight(weight, keys, values, scales, 1e12), weight)


def test_projected_out_is_orthogonal_to_the_direction():
    values, direction = random(3, 4), random(3, 4, seed=1)
    assert abs((eq.projected_out(values, direction) * direction).sum()) < 1e-12


@pytest.mark.parametrize("form", ["zero", "anchor", "weights", "identity", "both"])
def test_revived_minimises_the_distance_to_the_original_values(form):
    original = [random(6, 4, seed=s) for s in (0, 1)]
    edited = [w + 0.1 * random(6, 4, seed=s + 5) for s, w in enumerate(original)]
    concept, anchor, ridge = random(1, 3, 4, seed=9), random(1, 3, 4, seed=10), 0.2
    found = eq.revived(edited, original, concept, ridge, form, anchor).requires_grad_()
    loss = sum(((found @ e.T) - (concept @ o.T)).square().sum() for e, o in zip(edited, original, strict=True))
    near = {"zero": torch.zeros_like(concept), "anchor": anchor}.get(form, concept)
    if form != "weights":
        loss = loss + ridge * (found - near).square().sum()
    if form in ("weights", "both"):
        loss = loss + ridge * sum(((found - concept) @ e.T).square().sum() for e in edited)
    (gradient,) = torch.autograd.grad(loss, found)
    assert gradient.abs().max() < 1e-10


def test_revived_undoes_nothing_where_nothing_was_edited():
    weights, concept = [random(6, 4)], random(2, 4, seed=3)
    torch.testing.assert_close(eq.revived(weights, weights, concept, 0.0), concept)


def test_gumbel_softmax_without_noise_is_a_softmax_and_hard_is_one_hot_with_its_gradient():
    logits = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    flat = torch.full((1, 3), math.exp(-1))  # -log(-log u) = 0
    soft = eq.gumbel_softmax(logits, flat, 0.5)
    torch.testing.assert_close(soft, torch.softmax(logits / 0.5, -1))
    hard = eq.gumbel_softmax(logits, flat, 0.5, hard=True)
    assert hard.detach().round(decimals=5).tolist() == [[0, 1, 0]]
    weights = torch.tensor([[1.0, -2.0, 3.0]])
    gradients = [torch.autograd.grad((value * weights).sum(), logits)[0] for value in (soft, hard)]
    torch.testing.assert_close(*gradients)


def test_bit_cross_entropy_is_that_of_two_way_logits():
    logits, bits = random(2, 3, 4, 2), torch.randint(2, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 2), bits.flatten(), reduction="none").view(2, 3, 4)
    torch.testing.assert_close(eq.bit_cross_entropy(logits[..., 1] - logits[..., 0], bits), expected)


def test_a_token_is_wrong_from_a_quarter_of_its_bits_on_and_a_tie_is_not_wrong():
    bits = torch.ones(1, 3, 8)
    margins = torch.ones(1, 3, 8)
    margins[0, 0, :2] = -1
    margins[0, 1, :1] = -1
    margins[0, 2, 0], margins[0, 2, 1] = -1, 0
    assert eq.wrong_tokens(margins, bits).tolist() == [[1, 0, 0]]


def test_filtered_cross_entropy_by_hand():
    bits, margins = torch.ones(1, 4, 4), torch.full((1, 4, 4), 2.0)
    margins[0, 3] = -2.0
    wrong = math.log(1 + math.exp(2))
    assert eq.filtered_cross_entropy(margins, bits) == pytest.approx(wrong / 4)
    assert eq.filtered_cross_entropy(margins, bits, kept=True) == pytest.approx(wrong)
    assert eq.filtered_cross_entropy(margins, bits, scales=(2, 2)) == pytest.approx(wrong / 4)
    assert eq.filtered_cross_entropy(margins, bits, scales=(3, 1)) == pytest.approx(wrong / 2)


def test_bit_divergence_is_the_kl_of_bernoullis():
    teacher, student = random(3, 4), random(3, 4, seed=1)
    bernoulli = [torch.distributions.Bernoulli(logits=m) for m in (teacher, student)]
    torch.testing.assert_close(
        eq.bit_divergence(teacher, student), torch.distributions.kl_divergence(*bernoulli).mean()
    )
    assert eq.bit_divergence(teacher, teacher) == 0
