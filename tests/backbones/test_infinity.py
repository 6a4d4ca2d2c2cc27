"""Infinity behind the backbone's protocol: sites, roles, teacher forcing against sampling, files, training."""

import dataclasses

import pytest
import torch

from Infinity import Text, bits_to_tokens, margins
from stages.backbones.core.base import Settings
from stages.backbones.core.bits import CERTAIN
from stages.backbones.infinity import InfinityBackbone, text_of
from stages.control.edits import edit_activations, edit_guidance, swap_parameters
from stages.control.sites import Site
from stages.interventions.guidance import PromptGuidance
from stages.interventions.sld import Safety, SafetyGuidance
from stages.params import load_params
from stages.reading.activations import keep_token_means
from stages.reading.attention import attention_maps
from stages.seeds import pool as pool_seeds
from tests.backbones.tiny_infinity import make

PROMPTS = ["a red circle", "a photo of a blue square"]
SEEDS = (3, 4)
CALL = {"seeds": SEEDS, "steps": 4, "guidance": 3.0}


@pytest.fixture(scope="module")
def backbone():
    """Tests leave it as it was, and some test just that."""
    return make()


@pytest.fixture(scope="module")
def query(backbone):
    condition = backbone.encode(PROMPTS)
    return next(backbone.states(condition, 1, seed=0)), condition


def ramp(value, at):
    return value + torch.linspace(-1, 1, value.shape[-1])


# sites


def test_sites_name_the_tensors_that_they_promise(backbone, query):
    shapes = {}
    edit = lambda value, at: shapes.update({str(at.site): value.shape}) or value  # noqa: E731
    with edit_activations(backbone, dict.fromkeys(backbone.sites, edit)):
        backbone.predict(*query)
    tokens = backbone.schedule.tokens
    assert shapes["0.ff.hidden"] == (2, tokens, 24)
    others = {shape for site, shape in shapes.items() if "hidden" not in site}
    assert others == {(2, tokens, 16)}
    heads = backbone.addresses.tap(Site(1, "attn", "heads"))
    assert heads.when == "input" and backbone.net.get_submodule(heads.module) is backbone.net.blocks[1].sa.proj


def test_the_pooling_of_the_prompt_is_a_cross_attention_too(backbone):
    names = backbone.weights("cross_attn", projections=("key",))
    assert names[0] == "text_proj_for_sos.ca.mat_kv.weight" and len(names) == 1 + len(backbone.net.blocks)
    assert names == backbone.addresses.readers()
    pooling = {f"text_proj_for_sos.ca.{n}" for n in ("mat_q", "mat_kv.weight", "v_bias", "proj.weight", "proj.bias")}
    assert {n for n in backbone.weights("cross_attn", "attn") if n.startswith("text_proj")} == pooling
    assert not pooling & {*backbone.weights("attn"), *backbone.weights("ff")}


def test_gradients_reach_the_edit_the_weights_and_nothing_else(backbone, query):
    names = backbone.weights("cross_attn", projections=("key", "value"))
    assert {n.split(".ca.")[1] for n in names} == {"mat_kv.weight", "v_bias"}
    values = {n: backbone.addresses.parameter(n).clone().requires_grad_(True) for n in [*names, "cfg_uncond"]}
    shift = torch.zeros(1, requires_grad=True)
    edits = {site: lambda value, at: value + ramp(value, at) * shift for site in backbone.select("ff")}
    condition = backbone.encode([PROMPTS[0], ""])
    with edit_activations(backbone, edits), swap_parameters(backbone, values):
        backbone.predict(query[0], condition).square().mean().backward()
    assert shift.grad.abs().sum() > 0 and all(value.grad.abs().sum() > 0 for value in values.values())
    assert all(parameter.grad is None for part in backbone.modules().values() for parameter in part.parameters())


# scales and roles


def test_an_edit_knows_the_scale_of_every_token(backbone, query):
    """Teacher forcing has all scales in one call, the sampler one after another; spans give both alike."""
    site, seen = backbone.select("block")[0], {"forced": [], "sampled": []}

    def note(where):
        def edit(value, at):
            seen[where] += [(step, value[:, tokens].shape[1]) for step, tokens in at.spans()]
            return value

        return edit

    with edit_activations(backbone, {site: note("forced")}):
        backbone.predict(*query)
    with edit_activations(backbone, {site: note("sampled")}):
        backbone.sample(query[1], **CALL)
    expected = [(step, n) for step, n in enumerate(backbone.schedule.lengths)]
    assert seen["forced"] == seen["sampled"] == expected


def test_recorded_means_are_kept_by_scale_and_role(backbone, query):
    site = backbone.select("cross_attn")[1]
    with keep_token_means(backbone, [site]) as pool:
        backbone.sample(query[1], **CALL)
    assert pool.steps(site) == pool.steps(site, "uncond") == [0, 1, 2, 3]
    assert pool.get(site, 2).shape == (2, 16)
    assert not torch.allclose(pool.get(site, 2), pool.get(site, 2, "uncond"))


@pytest.mark.parametrize("role", ["cond", "uncond", "negative"])
def test_an_edit_of_one_role_changes_that_prediction_alone(backbone, query, role):
    found = {}

    def edit(value, at):
        rows = torch.zeros(len(value), 1, 1, dtype=torch.bool)
        rows[at.rows(role)] = True
        return torch.where(rows, ramp(value, at), value)

    def keep(key):
        return lambda parts, at: found.setdefault(key, dict(parts)) and parts

    call = CALL | {"steps": 1}
    for key, edits in (("plain", {}), ("edited", {backbone.select("block")[-1]: edit})):
        with edit_activations(backbone, edits), edit_guidance(backbone, keep(key), {"negative": "a green cross"}):
            backbone.sample(query[1], **call)
            predict = backbone.guider(query[1], 3.0)
            predict(query[0])
    assert list(predict.roles) == ["cond", "uncond", "negative"] == list(found["plain"])
    for other, value in found["plain"].items():
        assert torch.equal(value, found["edited"][other]) == (other != role)


def test_guidance_edits_see_the_conditional_rows_alone_without_guidance(backbone, query):
    seen = []
    plain = backbone.sample(query[1], **CALL | {"guidance": 1.0})
    with edit_guidance(backbone, lambda parts, at: seen.append((at.step, tuple(parts))) or parts):
        assert torch.equal(backbone.sample(query[1], **CALL | {"guidance": 1.0}), plain)
    assert seen == [(step, ("cond",)) for step in range(4)]


def test_without_guidance_safety_acts_and_a_negative_prompt_is_refused(backbone, query):
    call = CALL | {"guidance": 1.0}
    plain = backbone.sample(query[1], **call)
    with SafetyGuidance("a red shape", Safety(warmup=0)).attach(backbone):
        assert not torch.equal(backbone.sample(query[1], **call), plain)
    with SafetyGuidance("a red shape", Safety(scale=0)).attach(backbone):
        assert torch.equal(backbone.sample(query[1], **call), plain)
    with PromptGuidance("a green cross").attach(backbone), pytest.raises(ValueError, match="it takes above 1"):
        backbone.sample(query[1], **call)


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_an_agreeing_negative_prompt_acts_as_far_as_the_prompt_points_its_way(backbone, power):
    cond, other = torch.randn(2, 1, 5, 16, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(cond)
    negative = PromptGuidance("a green cross", 2.0, agreement=power)

    def uncond(concept):
        with negative.attach(backbone):  # at guidance 0 the conditional prediction has no share
            return backbone.attached.combine({"uncond": zero, "cond": cond, "negative": concept}, 0.0)

    torch.testing.assert_close(uncond(3 * cond), 6 * cond)
    assert torch.equal(uncond(-cond), zero)
    share = (cond * other).sum() / (cond.norm() * other.norm())
    torch.testing.assert_close(uncond(other), 2 * share.clamp_min(0) ** power * other)


# teacher forcing and sampling


@pytest.mark.parametrize("patchify", [1, 2])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_teacher_forced_margins_equal_the_samplers(patchify, guidance):
    backbone, found = make(patchify, guidance=guidance), []
    with edit_guidance(backbone, lambda parts, at: found.append(parts) or parts):
        backbone.gather(PROMPTS[:1], 0)
    sampled = {role: torch.cat([parts[role] for parts in found], dim=1) for role in found[0]}
    condition, tokens = backbone.encode(PROMPTS[:1]).repeat(2), backbone.trajectories.pools[PROMPTS[0]]
    state = backbone.forced(tokens)
    assert state.latent.shape == tokens.shape and not state.latent[:, 0].any()
    for role, rows in backbone.guider(condition, guidance).roles.items():
        assert torch.allclose(backbone.predict(state, rows, role=role), sampled[role], atol=1e-5)


def tokens_of(backbone, bits):
    return torch.cat([bits_to_tokens(one, backbone.vae.config.patchify) for one in bits], dim=1)


def test_gathered_bits_are_the_samplers_own_and_are_drawn(backbone, query):
    pool = backbone.trajectories.pools[PROMPTS[0]]
    assert pool.dtype == torch.uint8 and pool.shape == (2, backbone.schedule.tokens, 6)
    rows = backbone.encode([PROMPTS[0]]).repeat(2)
    drawn = backbone.sample(rows, seeds=pool_seeds(0, 2), steps=4, guidance=3.0)
    given = backbone.completed(rows, pool, len(backbone.schedule), seeds=[5, 6])  # of which no seed draws any
    assert torch.equal(given, drawn)
    assert any(torch.equal(query[0].final[0], picture) for picture in pool)
    kept = dict(backbone.trajectories.pools)
    backbone.gather(PROMPTS, seed=9)
    assert all(backbone.trajectories.pools[prompt] is kept[prompt] for prompt in kept)
    with pytest.raises(KeyError, match="no samples of 'a cross'"):
        backbone.draw(backbone.encode(["a cross"]), torch.Generator())


def test_fewer_steps_stop_at_a_coarser_scale(backbone, query):
    coarse, fine = (backbone.sample(query[1], **CALL | {"steps": steps}) for steps in (2, 4))
    assert coarse.shape == fine.shape == (2, 3, 8, 8) and not torch.equal(coarse, fine)
    assert torch.equal(backbone.sample(query[1], **CALL | {"steps": 50}), fine)
    assert fine.min() >= 0 and fine.max() <= 1


# distance


def test_distance_is_the_cross_entropy_of_scales_weighed_by_the_root_of_their_area(backbone, query):
    student = torch.randn(2, backbone.schedule.tokens, 6, generator=torch.Generator().manual_seed(0))
    teacher = torch.randn(student.shape, generator=torch.Generator().manual_seed(1))
    p, q = teacher.sigmoid().double(), student.sigmoid().double()
    entropy = -(p * q.log() + (1 - p) * (1 - q).log()).mean(-1)
    lengths = backbone.schedule.lengths
    weights = torch.cat([torch.full((n,), (lengths[-1] / n) ** 0.5, dtype=torch.float64) for n in lengths])
    expected = (entropy @ (weights / weights.sum())).mean()
    assert float(backbone.distance(student, teacher)) == pytest.approx(float(expected), rel=1e-5)
    variable = teacher.clone().requires_grad_(True)
    backbone.distance(variable, teacher).backward()
    assert variable.grad.abs().max() < 1e-7, "the nearest prediction is the target itself"


def test_it_samples_and_learns_from_pictures_of_its_own_size(backbone):
    images = backbone.sample(backbone.encode(PROMPTS[:1]), seeds=[0], steps=backbone.settings.steps, guidance=1.0)
    assert tuple(images.shape[-2:]) == backbone.picture_size()
    backbone.examples(images, torch.Generator().manual_seed(0))


def test_pictures_become_states_and_the_margins_of_their_bits(backbone):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    state, target = backbone.examples(images, torch.Generator())
    seen = backbone.vae.encode(2 * images - 1, backbone.schedule)
    assert torch.equal((target > 0).long(), tokens_of(backbone, seen.bits).long())
    assert torch.equal(state.latent, backbone.forced(state.final).latent)
    assert target.abs().unique().tolist() == [CERTAIN]
    assert backbone.distance(target, target) < 1e-5


# prompts


def test_the_empty_prompt_is_the_learned_null_text(backbone, query):
    condition = backbone.encode(["", PROMPTS[0]])
    text = text_of(condition, backbone.net)
    assert text.lengths == (12, 5)
    assert torch.equal(text.prompts()[0], backbone.net.cfg_uncond) and text.prompts()[1].abs().sum() > 0
    uncond = text_of(backbone.guider(query[1], 3.0).roles["uncond"], backbone.net)
    own = backbone.net.null_text(text_of(query[1], backbone.net))
    assert uncond.lengths == own.lengths and torch.equal(uncond.values, own.values)
    null = backbone.addresses.parameter("cfg_uncond") * 2
    with swap_parameters(backbone, {"cfg_uncond": null}):
        assert torch.equal(text_of(backbone.encode([""]), backbone.net).values, null)


def test_padding_changes_nothing(backbone, query):
    state, condition = query
    texts = backbone.texts.encoders()["text_encoder"](
        **backbone.texts.tokenizers["text_encoder"](PROMPTS[0], return_tensors="pt")
    ).last_hidden_state
    assert torch.allclose(text_of(condition, backbone.net).prompts()[0], texts[0], atol=1e-5)
    alone = margins(backbone.net(state.latent[:1, 1:], Text.of([texts[0]]), backbone.schedule))
    assert torch.allclose(backbone.predict(state, condition)[:1], alone, atol=1e-5)


def test_attention_to_words_can_be_read(backbone, query):
    prediction, maps = attention_maps(backbone, *query, [[2], [5]])
    assert torch.equal(prediction, backbone.predict(*query))
    assert {site.kind for site in maps} == {"cross_attn"} and len(maps) == 3
    assert all(m.shape == (2, backbone.schedule.tokens) and m.min() > 0 and m.max() < 1 for m in maps.values())


# files, memory, training


def test_save_and_load_give_the_same_bits(backbone, query, tmp_path):
    backbone.save(tmp_path)
    parts = ["model_index.json", "text_encoder", "tokenizer", "transformer", "vae"]
    assert sorted(path.name for path in tmp_path.iterdir()) == parts
    settings = dataclasses.replace(backbone.settings, path=str(tmp_path))
    again = InfinityBackbone.load("tiny", settings)
    assert again.schedule == backbone.schedule
    assert torch.equal(again.sample(again.encode(PROMPTS), **CALL), backbone.sample(query[1], **CALL))
    half = InfinityBackbone.load("tiny", dataclasses.replace(settings, dtype="bfloat16"))
    close = torch.stack([b.predict(query[0], b.encode(PROMPTS)).flatten() for b in (half, backbone)])
    assert torch.corrcoef(close)[0, 1] > 0.98 and not torch.equal(*close)


def test_checkpointing_gives_the_same_gradients_after_the_edits_are_gone(query):
    gradients = []
    for checkpointing in (False, True):
        backbone = make(gradient_checkpointing=checkpointing)
        condition = backbone.encode(PROMPTS)
        shift = torch.full((1,), 0.3, requires_grad=True)

        def edit(value, at, shift=shift):
            assert [step for step, _ in at.spans()] == [0, 1, 2, 3] and at.rows("cond") == slice(0, 2)
            return value + shift * torch.linspace(-1, 1, value.shape[-1])

        with edit_activations(backbone, dict.fromkeys(backbone.sites, edit)):
            loss = backbone.predict(query[0], condition).square().mean()
        loss.backward()
        gradients.append(shift.grad)
    assert gradients[0].abs() > 0 and torch.allclose(*gradients, rtol=1e-4)


def test_training_from_scratch_lowers_the_loss_and_teaches_every_part():
    backbone = make()
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    features, captions = backbone.embed(images), [*PROMPTS, "", "a cross"]
    parts = [backbone.net, backbone.texts.encoders()["text_encoder"]]
    parameters = [p for part in parts for p in part.requires_grad_(True).parameters()]
    adam, losses = torch.optim.Adam(parameters, 1e-2), []
    for step in range(12):
        loss = backbone.training_loss(features, captions, torch.Generator().manual_seed(step))
        assert not any(part.training for part in backbone.net.modules())
        adam.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        assert step or all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
        adam.step()
    assert losses[-1] < 0.8 * losses[0]


def test_stochastic_depth_is_at_work_in_a_lesson(monkeypatch):
    backbone, modes = make(), []
    forward = backbone.net.forward
    monkeypatch.setattr(
        backbone.net, "forward", lambda *args, **kwargs: modes.append(backbone.net.training) or forward(*args, **kwargs)
    )
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    backbone.training_loss(backbone.embed(images), PROMPTS, torch.Generator().manual_seed(0))
    assert modes == [True] and not backbone.net.training


def test_released_checkpoints_keep_their_seven_fields_and_name_the_missing_file():
    for name in ("infinity-125m", "infinity-2b", "infinity-8b"):
        content = load_params("backbones", name)
        fields = ["model_path", "model_type", "vae_path", "vae_type", "pn", "text_encoder_ckpt", "text_channels"]
        assert list(content["release"]) == fields
        settings = Settings(**{key: value for key, value in content.items() if key != "class"})
        with pytest.raises(FileNotFoundError, match=r"is missing; with a network, run: hf download FoundationVision"):
            InfinityBackbone.load(name, settings)
    wrong = dataclasses.replace(settings, release=content["release"] | {"vae_path": "x/infinity_vae_d16.pth"})
    with pytest.raises(ValueError, match="was trained with"):
        InfinityBackbone.load("wrong", wrong)


def test_settings_that_it_cannot_follow_are_refused():
    for key, value in {"offload": "parts", "revision": "main", "variant": "fp16", "scheduler": "DDIMScheduler"}.items():
        with pytest.raises(ValueError, match=f"{key} must be (none|None), got {value}"):
            make(**{key: value})


def test_embeddings_come_from_disk(tmp_path):
    first = make(cache=str(tmp_path)).encode(["a red circle", ""])
    again = make(cache=str(tmp_path))
    again.texts.encoders()["text_encoder"].register_forward_pre_hook(lambda *_: pytest.fail("the encoder was asked"))
    read = again.encode(["a red circle", ""])
    assert all(torch.equal(read.tensors[name], value) for name, value in first.tensors.items())
    assert make(cache=str(tmp_path), text_length=4).encode([""]).tensors["embeds"].shape[1] == 4
