"""Masks, binarization and step-wise gradients against numbers of the reference implementation (arXiv 2507.13386)."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace

import diffusers
import pytest
import torch
from torch import nn

from stages.backbones.text.texts import Texts
from stages.control.addresses import Addresses
from stages.control.attached import Attached
from stages.control.sites import Tap
from stages.interventions.masks.binarize import above, merge, positive, top
from stages.interventions.masks.mask import Mask
from stages.interventions.masks.released import call_order
from stages.objectives import hard_concrete, masked, open_probability
from stages.reading.unroll import unroll
from tests.parity.fixtures import Fixtures, below

FIXTURES = Fixtures("minimalist")
RESULTS = FIXTURES.manifest["results"]
CLASSES = {
    "flux": "FluxTransformer2DModel",
    "sd3": "SD3Transformer2DModel",
    "unet": "UNet2DConditionModel",
    "dit": "DiTTransformer2DModel",
}
MODELS = [name for name in RESULTS if name.partition("_")[0] in CLASSES]
MODES = {
    "sigmoid": "sigmoid",
    "binary": "binary",
    "continues2binary": "thresholded",
    "hard_discrete": "hard_concrete",
}
NOISE = 0.5  # the setting of the reference's configuration, named in the fixture's README


def read(name: str) -> dict[str, torch.Tensor]:
    return FIXTURES.tensors(f"{name}.safetensors")


def close(value: torch.Tensor, expected: torch.Tensor, limit: float) -> None:
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, rtol=0, atol=limit, equal_nan=True)


# masks


def cases(tensors: dict[str, torch.Tensor], prefix: str) -> list[tuple[str, float, bool]]:
    found = [(key, re.fullmatch(rf"{prefix}\.eps(.+)\.log([01])", key)) for key in tensors]
    return [(key, float(match[1]), match[2] == "1") for key, match in found if match]


def test_hard_concrete_and_its_derivative() -> None:
    tensors = read("hard_concrete")
    for key, noise, logarithm in cases(tensors, "mask"):
        score = tensors["lambda"].clone().requires_grad_()
        logit = score.clamp(min=noise).log() if logarithm else score
        mask = hard_concrete(logit[:, None], tensors["u"][None], noise)
        close(mask.detach(), tensors[key], 1e-6)
        expected = tensors["dmask_dlambda" + key.removeprefix("mask")]
        grid = score.detach()[:, None].expand(expected.shape).clone().requires_grad_()
        logit = grid.clamp(min=noise).log() if logarithm else grid
        (slope,) = torch.autograd.grad(hard_concrete(logit, tensors["u"][None], noise).sum(), grid)
        close(slope, expected, 1e-6)
    close(open_probability(tensors["lambda"]), tensors["l0_complexity"], 1e-6)


def test_draws_of_a_seeded_generator() -> None:
    tensors = read("hard_concrete")
    key = next(key for key in tensors if re.fullmatch(r"seed\d+\.lambda", key))
    seed, scores = int(key[4:].partition(".")[0]), tensors[key]
    generator = torch.Generator().manual_seed(seed)
    first = next(key for key in tensors if re.fullmatch(rf"seed{seed}\.mask_eps[^a-z]+", key))
    for name in (first, f"{first}.second_call"):
        mask = hard_concrete(scores, torch.rand(scores.shape, generator=generator), float(first.partition("eps")[2]))
        close(mask, tensors[name], 1e-6)


@pytest.mark.parametrize("theirs", list(RESULTS["mask_ops"]["info"]))
def test_mask_operations(theirs: str) -> None:
    tensors = read("mask_ops")
    if theirs == "no_masking":
        mask = torch.ones_like(tensors["lambda"])
    else:
        made = Mask({"m": tensors["lambda"]}, {"m": [Tap("x")]}, MODES[theirs], noise=NOISE)
        with made.noisy(lambda *_: tensors["u"]):
            mask = made.mask("m").detach()
    close(mask, tensors[f"mask.{theirs}"], 1e-6)
    heads = tensors["h4"].transpose(1, 2).flatten(2)  # before the output projection
    close(masked(heads, mask), tensors[f"attn.{theirs}"].transpose(1, 2).flatten(2), 1e-6)
    for name, source in (("ff", "h3"), ("norm2d", "h2"), ("norm3d", "h3")):
        close(masked(tensors[source], mask), tensors[f"{name}.{theirs}"], 1e-6)
    low = masked(tensors["h3"].bfloat16(), mask)
    assert low.dtype == tensors[f"ff_bf16.{theirs}"].dtype
    close(low, tensors[f"ff_bf16.{theirs}"], 0)


def test_filling_what_a_mask_removes() -> None:
    tensors = read("mask_ops")
    for key in (key for key in tensors if ".epsilon" in key and not key.endswith("noise")):
        name, mode, share = re.fullmatch(r"(\w+)\.(\w+)\.epsilon(.+)", key).groups()
        assert name == "ff"
        fill = float(share) * tensors[f"{key}.noise"]
        close(masked(tensors["h3"], tensors[f"mask.{mode}"], fill), tensors[key], 1e-6)


# binarization


def layers(tensors: dict[str, torch.Tensor], prefix: str) -> list[torch.Tensor]:
    count = len([key for key in tensors if re.fullmatch(r"lambda\.\d+", key)])
    return [tensors[f"{prefix}.{i}"] for i in range(count)]


@pytest.mark.parametrize("case", list(RESULTS["binarize"]["info"]))
def test_binarize(case: str) -> None:
    tensors = read("binarize")
    scope, _, ratio = case.partition(".")
    scores = layers(tensors, "lambda")
    made, expected = top(scores, float(ratio), scope), layers(tensors, case)
    total = sum(score.numel() for score in scores)
    counts = [score.numel() for score in scores] if scope == "local" else [total] * len(scores)
    assert [int(value.sum()) for value in expected] == RESULTS["binarize"]["info"][case]
    for own, theirs, count in zip(made, expected, counts, strict=True):
        if int(count * float(ratio)):
            close(own, theirs, 0)
        else:  # the reference keeps nearly everything where the ratio asks for less than one
            assert not own.any()
            assert theirs.sum() in (len(theirs), len(theirs) - 1, 0)


def test_load_with_a_threshold() -> None:
    tensors = read("binarize")
    scores, seen = layers(tensors, "lambda"), 0
    for key in {re.sub(r"\.\d+$", "", key) for key in tensors if key.startswith("load.")}:
        binary, threshold = re.fullmatch(r"load\.binary([01])\.thr(.+)", key).groups()
        made = above(scores, float(threshold)) if binary == "1" else positive(scores)
        for own, theirs in zip(made, layers(tensors, key), strict=True):
            close(own, theirs, 0)
            seen += 1
    assert seen


def test_merge() -> None:
    """The reference ranks scores that its loader has clamped, so negative ones go in order of index."""
    tensors = read("binarize")
    for family, ratio in (("attn", 1.0), ("ff", 0.9), ("norm", 0.5)):  # named in the fixture's README
        pair = [top(positive(layers(tensors, prefix)), ratio) for prefix in ("lambda", "merge.lambda_b")]
        places = {str(i): [Tap(f"layer{i}")] for i in range(len(pair[0]))}
        masks = [Mask({str(i): v for i, v in enumerate(values)}, places, "binary") for values in pair]
        for (_, own), theirs in zip(merge(masks).items(), layers(tensors, f"merge.{family}"), strict=True):
            close(own, theirs, 0)


# masked networks


class Network:
    """What activation edits ask of a backbone, around a bare network without text encoders."""

    name = "fixture"

    def __init__(self, net: nn.Module) -> None:
        self.net, self.attached = net.eval().requires_grad_(False), Attached()
        self.addresses = Addresses(self.name, net, {}, Texts(self.name))


def build(model: str, tensors: dict[str, torch.Tensor]) -> Network:
    config = RESULTS[model]["info"]["config"]
    config = ast.literal_eval(config) if isinstance(config, str) else config
    net = getattr(diffusers, CLASSES[model.partition("_")[0]])(**config)
    net.load_state_dict(below(tensors, "w."))
    return Network(net)


def taps(net: nn.Module, hook: str, path: str) -> list[Tap]:
    """Where the reference's hook on a module masks."""
    if hook == "linear":
        return [Tap(path)]
    if hook == "norm":
        return [Tap(f"{path}.linear")]
    if hook == "ff":
        return [Tap(f"{path}.net.0")]
    attention = net.get_submodule(path)
    if getattr(attention, "to_out", None) is None:
        return [Tap(path)]
    both = [Tap(f"{path}.to_out.0", "input"), Tap(f"{path}.to_add_out", "input")]
    return both[: 2 if getattr(attention, "to_add_out", None) is not None else 1]


def masks(model: str, network: Network, tensors: dict[str, torch.Tensor], mode: str, prefix: str = "") -> Mask:
    """The fixture's masks; the reference uses its binary mode on masks that were loaded as zeros and ones."""
    places, scores = {}, {}
    for hook, entries in RESULTS[model]["info"]["hooks"].items():
        for i, (path, _) in enumerate(entries):
            score = tensors[f"{prefix}lambda.{hook}.{i}"]
            places[f"{hook}.{i}"] = taps(network.net, hook, path)
            scores[f"{hook}.{i}"] = nn.Parameter(above([score])[0] if mode == "binary" else score.clone())
    return Mask(scores, places, mode, noise=NOISE)


def only(made: Mask, hook: str) -> Mask:
    names = [name for name in made.names if name.startswith(f"{hook}.")]
    return Mask({n: made.scores[made.names.index(n)] for n in names}, {n: made.places[n] for n in names}, made.mode)


def recorded(network: Network, made: Mask, uniforms: list[torch.Tensor], forward) -> object:
    """The reference's uniforms by sampler step: it drew one for each mask at each call, in order of calls."""
    first = {made.places[name][0].module: name for name in made.names}
    order = [first[path] for path in call_order(network.net, first, forward)]
    table = {(i // len(order), order[i % len(order)]): u.flatten() for i, u in enumerate(uniforms)}
    return lambda name, step, _: table[step, name]


def drawn(tensors: dict[str, torch.Tensor], prefix: str = "") -> list[torch.Tensor]:
    return [tensors[key] for key in sorted(key for key in tensors if key.startswith(f"{prefix}u."))]


def call(network: Network, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return network.net(**below(tensors, "in."), return_dict=False)[0]


@pytest.mark.parametrize("model", MODELS)
def test_masked_outputs(model: str) -> None:
    tensors = read(f"model_{model}")
    network = build(model, tensors)
    with torch.no_grad():
        close(call(network, tensors), tensors["out.baseline"], 1e-5)
        for theirs, ours in MODES.items():
            made = masks(model, network, tensors, ours)
            uniforms = recorded(network, made, drawn(tensors), lambda: call(network, tensors))
            with made.noisy(uniforms), made.attach(network):
                close(call(network, tensors), tensors[f"out.{theirs}"], 1e-5)
        for hook in RESULTS[model]["info"]["hooks"]:
            with only(masks(model, network, tensors, "thresholded"), hook).attach(network):
                close(call(network, tensors), tensors[f"out.binary_only.{hook}"], 1e-5)
        close(call(network, tensors), tensors["out.no_masking"], 1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_linear_masks_are_numbered_in_order_of_calls(model: str) -> None:
    tensors, info = read(f"model_{model}"), RESULTS[model]["info"]
    network = build(model, tensors)
    registered = info["registered_order"]
    registered = ast.literal_eval(registered) if isinstance(registered, str) else registered
    for hook, paths in registered.items():
        called = [path for path, _ in info["hooks"][hook]]
        assert call_order(network.net, paths, lambda: call(network, tensors)) == called


# step-wise gradients

RATES = {"attn": 0.0, "ff": 0.5, "norm": 0.5}  # of AdamW, named in the fixture's README


@pytest.fixture(scope="module")
def flux() -> SimpleNamespace:
    base, run = read("model_flux"), read("stepwise_grad_flux")
    network = build("flux", base)
    inputs = {key: value for key, value in below(base, "in.").items() if key not in ("hidden_states", "timestep")}

    def step(index: int, latent: torch.Tensor) -> torch.Tensor:
        time = (run["timesteps"][index] / 1000).expand(len(latent))
        with network.attached.at(index, {}):
            velocity = network.net(hidden_states=latent, timestep=time, **inputs, return_dict=False)[0]
        return latent + (run["sigmas"][index + 1] - run["sigmas"][index]) * velocity

    return SimpleNamespace(network=network, base=base, run=run, step=step, steps=len(run["timesteps"]))


def relative(gradients: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    own, theirs = (torch.cat([g.flatten() for g in part]) for part in (gradients, expected))
    return float((own - theirs).norm() / theirs.norm())


def test_stepwise_gradients_of_sigmoid_masks(flux: SimpleNamespace) -> None:
    run = flux.run
    made = masks("flux", flux.network, before_the_step(run), "sigmoid")

    def step(index: int, latent: torch.Tensor) -> torch.Tensor:
        with made.attach(flux.network):
            return flux.step(index, latent)

    latent = run["z_T"]
    with torch.no_grad():
        for index in range(flux.steps):
            close(latent, run[f"latent.{index}"], 1e-5)
            latent = step(index, latent)
    final = unroll(step, flux.steps, run["z_T"], made.parameters())
    close(final.detach(), run[f"latent.{flux.steps}"], 1e-5)
    loss = nn.functional.mse_loss(final, run["target"])
    assert loss.item() == pytest.approx(float(run["loss"]), rel=1e-5)
    gradients = torch.autograd.grad(loss, list(made.parameters()))
    for kind in ("grad_stepwise", "grad_full"):
        expected = [run[f"{kind}.{name}"] for name in made.names]
        assert relative(gradients, expected) < 1e-5
        for own, theirs in zip(gradients, expected, strict=True):
            assert relative([own], [theirs]) < 1e-5
    for score, gradient in zip(made.parameters(), gradients, strict=True):
        score.grad = gradient
    groups = [{"params": [score], "lr": RATES[name.partition(".")[0]]} for name, score in made.items()]
    torch.optim.AdamW(groups).step()
    for name, score in made.items():
        close(score.detach(), run[f"lambda_after_adamw.{name}"], 1e-4)


def before_the_step(run: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The scores that the gradients are of: the file's own, or, where those share memory with the scores after AdamW's
    first step, that step undone: (after + lr g / (|g| + eps)) / (1 - lr decay).
    """
    scores = {key: value for key, value in run.items() if key.startswith("lambda.")}
    after = {key: run[key.replace("lambda.", "lambda_after_adamw.")] for key in scores}
    if any(not torch.equal(after[key], value) for key, value in scores.items()):
        return scores
    for key, value in scores.items():
        rate, gradient = RATES[key.split(".")[1]], run[key.replace("lambda.", "grad_full.")].double()
        start = (value.double() + rate * gradient / (gradient.abs() + 1e-8)) / (1 - rate * 0.01)
        scores[key] = start.float()
    return scores


HARD = RESULTS["stepwise_grad_hard"]["info"]


@pytest.mark.parametrize("case", [case for case, info in HARD.items() if isinstance(info, dict)])
def test_stepwise_gradients_of_hard_concrete_masks(flux: SimpleNamespace, case: str) -> None:
    info, tensors = HARD[case], read("stepwise_grad_flux_hard")
    start = flux.run["z_T"]
    source = case if f"{case}/u.000" in tensors else "concept_official"
    made = masks("flux", flux.network, tensors, "hard_concrete", "concept_official/")
    uniforms = drawn(tensors, f"{source}/")
    forward, again = uniforms[: info["n_u_forward"]], uniforms[info["n_u_forward"] :]
    again = reversed_steps(again, len(made.names)) if not info["replay"] else forward
    plain = lambda: flux.step(0, start)  # noqa: E731
    first, second = (recorded(flux.network, made, list(part), plain) for part in (forward, again))

    def under(noise: object, index: int, latent: torch.Tensor) -> torch.Tensor:
        with made.noisy(noise), made.attach(flux.network):
            return flux.step(index, latent)

    final = unroll(
        lambda i, z: under(first, i, z), flux.steps, start, made.parameters(), lambda i, z: under(second, i, z)
    )
    close(final.detach(), tensors[f"{case}/z0"], 1e-5)
    concept = info["value"] == 1
    target = tensors[f"concept_official/target_{'concept' if concept else 'neutral'}"]
    loss = nn.functional.mse_loss(final, target) * (1.0 if concept else 0.1)  # beta, named in the fixture's README
    assert loss.item() == pytest.approx(info["loss"], rel=1e-5)
    gradients = torch.autograd.grad(loss / 4, list(made.parameters()))  # accumulated over 4
    assert relative(gradients, [tensors[f"{case}/grad.{name}"] for name in made.names]) < 1e-5
    if info["replay"]:
        latent = start
        for index in range(flux.steps):
            latent = under(first, index, latent)
        whole = torch.autograd.grad(nn.functional.mse_loss(latent, target) / 4, list(made.parameters()))
        assert relative(gradients, whole) < 1e-5


def reversed_steps(uniforms: list[torch.Tensor], per_step: int) -> list[torch.Tensor]:
    """Draws made last step first, in the order of the steps."""
    chunks = [uniforms[i : i + per_step] for i in range(0, len(uniforms), per_step)]
    return [u for chunk in reversed(chunks) for u in chunk]
