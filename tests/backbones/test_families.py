"""What every family must do, on tiny random backbones: its sites, its edits, its sampler, its roles."""

import json
from dataclasses import replace

import pytest
import torch

from stages.backbones.core.base import Settings
from stages.backbones.core.guidance import Guidance
from stages.control.edits import edit_activations, edit_condition, edit_guidance, edit_samples, swap_parameters
from stages.control.sites import Site, select
from stages.interventions.guidance import PromptGuidance
from tests.backbones.families import FAMILIES, PROMPTS, SEEDS

ARCHITECTURES = [
    "unet",
    "xl",
    "sd3",
    "sd35",
    "flux-dev",
    "dit",
    "pixart",
    "sana",
    "cogvideox-2b",
    "cogvideox-5b",
    "wan",
    "infinity",
]  # the other entries differ in schedule or guidance alone


@pytest.fixture(params=ARCHITECTURES)
def backbone(request, made):
    return made(request.param)


def ramp(value, at):
    return value + torch.linspace(-1, 1, value.shape[-1])


# sites


def test_every_site_fires_once_in_order_of_execution(backbone, query):
    fired = []
    edits = {site: lambda value, at: fired.append(at.site) or value for site in backbone.sites}
    state, condition = query(backbone)
    before = backbone.predict(state, condition)
    with edit_activations(backbone, edits):
        assert torch.equal(backbone.predict(state, condition), before)
    assert fired == list(backbone.sites)


def test_every_site_reaches_the_output_and_detaches_bitwise(backbone, query):
    state, condition = query(backbone)
    before = backbone.predict(state, condition)
    for site in backbone.sites:
        with edit_activations(backbone, {site: ramp}):
            assert not torch.allclose(backbone.predict(state, condition), before, atol=1e-6), site
    assert torch.equal(backbone.predict(state, condition), before)


def test_an_exception_inside_detaches_too(backbone, query):
    state, condition = query(backbone)
    before = backbone.predict(state, condition)
    names = backbone.weights("cross_attn", "attn")
    values = {name: torch.zeros_like(backbone.addresses.parameter(name)) for name in names}
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        edit_activations(backbone, dict.fromkeys(backbone.sites, ramp)),
        swap_parameters(backbone, values),
    ):
        assert not torch.allclose(backbone.predict(state, condition), before, atol=1e-6)
        raise RuntimeError("on purpose")
    assert torch.equal(backbone.predict(state, condition), before)


def test_sites_show_tokens_of_their_own_stream(made, query):
    backbone = made("flux-dev")
    state, condition = query(backbone)
    shapes, text = {}, backbone.texts.length
    with edit_activations(backbone, {s: lambda v, at: shapes.update({at.site: v.shape}) or v for s in backbone.sites}):
        backbone.predict(state, condition)
    tokens = [shape[1] for site, shape in shapes.items() if len(shape) == 3 and site.stream == "text"]
    assert set(tokens) == {text}
    assert {shape[1] for site, shape in shapes.items() if len(shape) == 3 and site.stream == "image"} == {4}
    assert shapes[Site(1, "attn")] == shapes[Site(1, "attn", "heads")]


def test_a_convolved_feed_forward_is_edited_as_tokens(made, query):
    backbone = made("sana")
    state, condition = query(backbone)
    seen = {}
    sites = [Site(0, "ff"), Site(0, "ff", "hidden"), Site(0, "block")]
    with edit_activations(backbone, {s: lambda v, at: seen.update({str(at.site): tuple(v.shape)}) or v for s in sites}):
        backbone.predict(state, condition)
    assert seen["0.ff.out"] == seen["0.block.out"] == (2, 64, 16)
    assert seen["0.ff.hidden"][:2] == (2, 64)


def test_sd35_lists_its_second_attention_where_it_has_one(made):
    sites = select(made("sd35").sites, "dual_attn")
    assert sites == [Site(0, "dual_attn")]
    with pytest.raises(KeyError, match=r"no such site: 1\.dual_attn\.out; tiny has dual_attn"):
        made("sd35").addresses.tap(Site(1, "dual_attn"))


def test_joint_attention_offers_the_weights_of_both_streams(made):
    names = made("sd3").weights("cross_attn", "attn", projections=("key", "value"))
    assert {name.split(".attn.")[1].split(".")[0] for name in names} == {"to_k", "to_v", "add_k_proj", "add_v_proj"}


def test_gradients_reach_the_edit_and_nothing_else(backbone, query):
    state, condition = query(backbone)
    sites = backbone.select("block", stream="image")
    names = backbone.weights("cross_attn", "attn", projections=("value",))
    values = {name: backbone.addresses.parameter(name).clone().requires_grad_(True) for name in names}
    shifts = {site: torch.zeros(1, requires_grad=True) for site in sites}
    edits = {site: lambda value, at: value + ramp(value, at) * shifts[at.site] for site in sites}
    with edit_activations(backbone, edits), swap_parameters(backbone, values):
        backbone.predict(state, condition).square().mean().backward()
    assert all(value.grad.abs().sum() > 0 for name, value in values.items() if name.endswith("weight")), names
    assert all(shift.grad.abs().sum() > 0 for shift in shifts.values())
    assert all(parameter.grad is None for part in backbone.modules().values() for parameter in part.parameters())


# sampling


@pytest.mark.parametrize("name", FAMILIES)
def test_sample_equals_the_loaded_pipelines_own_call(name, tmp_path):
    family = FAMILIES[name]
    original = family.make()
    original.save(tmp_path)
    pipe = family.cls.PIPELINE.from_pretrained(tmp_path, **{"vae": original.vae} | family.cls.WITHOUT)
    settings = {"path": str(tmp_path), "family": "tiny"} | family.settings
    ours = family.cls.load("tiny", Settings(**settings))
    condition, pictures = ours.encode(PROMPTS), {}
    for guidance in (1.0, 3.0):
        theirs = family.call(pipe, PROMPTS, ours.noise(SEEDS), guidance)
        pictures[guidance] = ours.sample(condition, seeds=SEEDS, steps=4, guidance=guidance)
        assert (pictures[guidance] - theirs).abs().max() < 1e-4
        assert torch.equal(original.sample(condition, seeds=SEEDS, steps=4, guidance=guidance), pictures[guidance])
    assert pictures[1.0].std() > 0.1
    assert (pictures[1.0] - pictures[3.0]).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_bits(backbone):
    call = {"seeds": SEEDS, "steps": 2, "guidance": 3.0}
    condition = backbone.encode(PROMPTS)
    assert torch.equal(backbone.sample(condition, **call), backbone.sample(condition, **call))


def test_a_picture_does_not_depend_on_its_batch(backbone):
    call = {"steps": 2, "guidance": 3.0}
    together = backbone.sample(backbone.encode(PROMPTS), seeds=SEEDS, **call)
    alone = backbone.sample(backbone.encode(PROMPTS[1:]), seeds=SEEDS[1:], **call)
    assert (alone[0] - together[1]).abs().max() < 1e-5


def test_noise_of_a_stochastic_scheduler_belongs_to_its_picture(made):
    backbone = made("xl-turbo")
    call = {"steps": 3, "guidance": 1.0}
    first = backbone.sample(backbone.encode(PROMPTS), seeds=SEEDS, **call)
    torch.manual_seed(99)
    assert torch.equal(backbone.sample(backbone.encode(PROMPTS), seeds=SEEDS, **call), first)
    alone = backbone.sample(backbone.encode(PROMPTS[1:]), seeds=SEEDS[1:], **call)
    assert (alone[0] - first[1]).abs().max() < 1e-5


# roles and guidance


def by_two_passes(backbone, condition):
    """A guider that asks for the empty prompt too, also of a network that is told its guidance."""
    with edit_guidance(backbone, lambda parts, at: parts, {"again": PROMPTS[0]}):
        predict = backbone.guider(condition, 3.0)
    return replace(predict, roles={role: predict.roles[role] for role in backbone.ROLES})


@pytest.mark.parametrize("role", ["cond", "uncond"])
def test_an_edit_of_one_role_changes_that_prediction_alone(backbone, query, role):
    state, condition = query(backbone)
    predict = by_two_passes(backbone, condition)
    assert predict.roles["cond"].prompts == tuple(PROMPTS) and predict.roles["uncond"].prompts == ("", "")

    def edit(value, at):
        rows = torch.zeros(len(value), dtype=torch.bool)
        rows[at.rows(role)] = True
        return torch.where(rows.view(-1, *(1,) * (value.ndim - 1)), ramp(value, at), value)

    plain, changed = {}, {}
    with edit_guidance(backbone, lambda parts, at: plain.update(parts) or parts):
        predict(state)
    with (
        edit_activations(backbone, {backbone.select("block", stream="image")[-1]: edit}),
        edit_guidance(backbone, lambda parts, at: changed.update(parts) or parts),
    ):
        predict(state)
    other = {"cond": "uncond", "uncond": "cond"}[role]
    assert torch.equal(changed[other], plain[other])
    assert not torch.allclose(changed[role], plain[role], atol=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_prompt_decides_which_rows_are_conditional(name, made, query):
    """Swapping the prompts moves the conditional prediction, and never the unconditional one."""
    backbone = made(name)
    state, condition = query(backbone)
    swapped = backbone.encode(PROMPTS[::-1])
    parts = []
    with edit_guidance(backbone, lambda found, at: parts.append(found) or found):
        for asked in (condition, swapped):
            by_two_passes(backbone, asked)(state)
    assert torch.equal(parts[0]["uncond"], parts[1]["uncond"])
    assert not torch.allclose(parts[0]["cond"], parts[1]["cond"], atol=1e-6)


def test_guidance_is_linear_in_the_predictions(backbone, query):
    state, condition = query(backbone)
    predict = by_two_passes(backbone, condition)
    at = {scale: replace(predict, guidance=Guidance(scale))(state) for scale in (0.0, 1.0, 3.0)}
    assert torch.allclose(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]), atol=1e-4)
    assert at[3.0].shape == backbone.predict(state, condition).shape
    told = getattr(backbone.net.config, "guidance_embeds", False)  # a distilled network is told less in predict
    assert torch.allclose(backbone.predict(state, condition), at[1.0], atol=1e-5) != told


def test_a_distilled_network_is_told_less_while_it_trains(made, query):
    backbone = made("flux-dev")
    state, condition = query(backbone)
    trained = backbone.predict(state, condition)
    sampled = backbone.guider(condition, 3.5)(state)
    assert not torch.allclose(trained, sampled, atol=1e-6)
    same = FAMILIES["flux-dev"].make(training_guidance=3.5)
    assert torch.allclose(same.predict(state, condition), sampled, atol=1e-6)


def test_dit_puts_the_conditional_rows_first(made, query):
    backbone = made("dit")
    _, condition = query(backbone)
    assert list(backbone.guider(condition, 2.0).roles) == ["cond", "uncond"]
    assert list(made("unet").guider(made("unet").encode(PROMPTS), 2.0).roles) == ["uncond", "cond"]


def test_condition_edits_reach_the_sampler(backbone):
    name = next(iter(backbone.encode(PROMPTS).tensors))
    call = {"seeds": SEEDS, "steps": 2, "guidance": 1.0}
    plain = backbone.sample(backbone.encode(PROMPTS), **call)
    with edit_condition(backbone, lambda c: c.with_tensors(**{name: c.tensors[name].flip(0)})):
        assert not torch.allclose(backbone.sample(backbone.encode(PROMPTS), **call), plain, atol=1e-4)
    assert torch.equal(backbone.sample(backbone.encode(PROMPTS), **call), plain)


def test_sample_edits_wrap_the_sampler(backbone):
    condition = backbone.encode(PROMPTS)
    call = {"seeds": SEEDS, "steps": 2, "guidance": 1.0}
    plain = backbone.sample(condition, **call)
    with edit_samples(backbone, lambda sampler: lambda *args, **kwargs: 1 - sampler(*args, **kwargs)):
        assert torch.equal(backbone.sample(condition, **call), 1 - plain)
    assert torch.equal(backbone.sample(condition, **call), plain)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "dit"])  # which reads no text
def test_swapped_weights_of_a_text_encoder_reach_the_condition_and_no_cache(name, made):
    backbone = made(name)
    plain = backbone.encode(PROMPTS)
    part = next(iter(backbone.texts.encoders()))
    table = backbone.texts.encoders()[part].get_input_embeddings().weight
    name = next(n for n, value in backbone.texts.encoders()[part].named_parameters() if value is table)
    with swap_parameters(backbone, {f"{part}.{name}": table.flip(1)}):
        swapped = backbone.encode(PROMPTS)
    assert any(not torch.equal(swapped.tensors[key], value) for key, value in plain.tensors.items())
    again = backbone.encode(PROMPTS)
    assert all(torch.equal(again.tensors[key], value) for key, value in plain.tensors.items())


# the forward process


@pytest.mark.parametrize("name", ["unet", "unet-v-zero-snr", "flux-dev", "pixart", "sana", "cogvideox-2b", "wan"])
def test_the_right_prediction_gives_the_clean_latent_back(name, made):
    backbone = made(name)
    generator = torch.Generator().manual_seed(0)
    clean, noise = backbone.noise([1, 2]), backbone.noise([3, 4])
    time = backbone.process.random_times(2, generator)
    noisy, target = backbone.process.noised(clean, noise, time), backbone.process.target(clean, noise, time)
    assert torch.allclose(backbone.process.clean(noisy, target, time), clean, atol=1e-4)


def test_flow_times_stay_inside_and_are_shifted_towards_noise(made):
    generator = torch.Generator().manual_seed(0)
    plain, shifted = (made(name).process.random_times(4000, generator) for name in ("flux-schnell", "sd3"))
    assert plain.min() > 0 and shifted.max() < 1000
    assert plain.median() == pytest.approx(500, abs=20) and shifted.median() == pytest.approx(750, abs=20)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "infinity"])  # which keeps bits
def test_states_lie_on_gathered_trajectories(name, made):
    backbone = made(name)
    states = list(backbone.states(backbone.encode(PROMPTS), 4, seed=0))
    assert len({state.step for state in states}) > 1
    for state in states:
        assert state.input.shape == (2, *backbone.latent_shape())
        for row, prompt in enumerate(PROMPTS):
            runs = backbone.trajectories.pools[prompt]
            assert any(torch.equal(state.latent[row], run[state.step]) for run in runs)
            assert any(torch.equal(state.final[row], run[-1]) for run in runs)
    with pytest.raises(KeyError, match="gather them"):
        backbone.draw(backbone.encode(["a red shape"]), torch.Generator())


def test_the_walk_passes_the_schedulers_times(made):
    backbone = made("unet")
    states = list(backbone.walk(backbone.encode(PROMPTS[:1]), backbone.noise([0]), steps=4, guidance=1.0))
    assert [state.step for state in states] == [0, 1, 2, 3, 4]
    assert [int(state.time[0]) for state in states[:-1]] == [751, 501, 251, 1]


def test_embed_inverts_the_scaling_of_decode(made):
    backbone, generator = made("unet"), torch.Generator().manual_seed(0)
    images, factor = torch.rand(2, 3, 8, 8, generator=generator), backbone.vae.config.scaling_factor
    assert torch.allclose(backbone.embed(images), backbone.vae.encode(images * 2 - 1).latents * factor)


# prompts


def test_dit_understands_the_class_in_a_prompt(made):
    dit = made("dit")
    named = {prompt: dit.class_of(prompt) for prompt in ("a photo of a Red circle.", "a disc", "azure plus", "red", "")}
    labels = dit.pipeline.labels
    assert named["a photo of a Red circle."] == labels["red circle"] and named["a disc"] == labels["circle"]
    assert named["azure plus"] == labels["blue cross"] and named["red"] == labels["red shape"]
    assert named[""] == dit.class_of("a picture of a shape") == 1000
    with pytest.raises(ValueError, match=r"'a photo of a dog' names none; .*have: "):
        dit.encode(["a photo of a dog"])


def test_sdxl_takes_the_empty_prompt_for_no_prompt(made):
    empty = made("xl").encode(["", "a red circle"])
    assert empty.tensors["embeds"][0].abs().sum() == 0 and empty.tensors["pooled"][0].abs().sum() == 0
    assert empty.tensors["embeds"][1].abs().sum() > 0 and empty.tensors["pooled"][1].abs().sum() > 0


def test_sd3_does_without_its_longest_encoder(made, tmp_path):
    made("sd3").save(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    without = FAMILIES["sd3"].cls.load("tiny", Settings(path=str(tmp_path), family="mmdit", text_length=12))
    zeros, texts = (backbone.encode(PROMPTS).tensors["embeds"] for backbone in (without, made("sd3")))
    assert not zeros[:, -12:].any() and texts[:, -12:].any()


def test_a_negative_prompt_takes_the_place_of_the_empty_one(backbone):
    call = {"seeds": SEEDS, "steps": 2, "guidance": 3.0}
    plain = backbone.sample(backbone.encode(PROMPTS), **call)
    if getattr(backbone.net.config, "guidance_embeds", False):
        with PromptGuidance("a blue circle").attach(backbone), pytest.raises(ValueError, match="is told its guidance"):
            backbone.sample(backbone.encode(PROMPTS), **call)
        return
    with PromptGuidance("a blue circle").attach(backbone):
        changed = backbone.sample(backbone.encode(PROMPTS), **call)
    with PromptGuidance("a blue circle", strength=0.0).attach(backbone):
        assert torch.allclose(backbone.sample(backbone.encode(PROMPTS), **call), plain, atol=1e-5)
    assert not torch.allclose(changed, plain, atol=1e-4)
