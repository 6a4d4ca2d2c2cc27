"""Interventions: attach and detach, save and load, composition, and refusal of damaged files."""

import json
import pickle

import pytest
import torch

from stages.control.edits import edit_guidance, free_role
from stages.interventions import Identity, Stack, load, save
from stages.interventions.guidance import PromptGuidance
from stages.interventions.sld import Safety, SafetyGuidance, safety_guidance
from stages.interventions.starts import as_sampled
from stages.interventions.weights import Weights

CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}


@pytest.fixture
def condition(backbone):
    return backbone.encode(["a red circle", "a blue square"])


@pytest.fixture
def weights(backbone):
    made = Weights.copy(backbone, backbone.weights("cross_attn"))
    generator = torch.Generator().manual_seed(0)
    for value in made.parameters():
        value.data += 0.3 * torch.randn(value.shape, generator=generator)
    return made


def made_of(backbone, weights):
    return {
        "identity": Identity(),
        "weights": weights,
        "negative": PromptGuidance("a red shape"),
        "stack": Stack(weights, PromptGuidance("a red shape", 0.5)),
    }


@pytest.mark.parametrize("kind", ["weights", "negative", "stack"])
def test_it_changes_samples_detaches_bitwise_and_survives_its_file(backbone, condition, weights, tmp_path, kind):
    intervention = made_of(backbone, weights)[kind]
    plain = backbone.sample(condition, **CALL)
    with intervention.attach(backbone):
        edited = backbone.sample(condition, **CALL)
    assert not torch.allclose(edited, plain, atol=1e-4)
    assert torch.equal(backbone.sample(condition, **CALL), plain)
    save(intervention, tmp_path / "a")
    save(intervention, tmp_path / "b")
    for file in ("intervention.safetensors", "intervention.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with load(tmp_path / "a").attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), edited)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_changes_of_the_same_weights_add_up(backbone, dtype):
    backbone.net.to(dtype)
    names = backbone.weights("cross_attn")
    own = {name: backbone.addresses.parameter(name) for name in names}
    changes = [{name: torch.full(own[name].shape, step) for name in names} for step in (0.25, -2.0)]
    one, two = (Weights({name: own[name].float() + change[name] for name in names}) for change in changes)
    with one.attach(backbone):
        assert all(torch.equal(backbone.addresses.parameter(name), value.to(dtype)) for name, value in one.items())
        with two.attach(backbone):
            for name in names:
                wanted = own[name].float() + changes[0][name] + changes[1][name]
                assert torch.allclose(
                    backbone.addresses.parameter(name).float(), wanted, atol=1e-5 if dtype == torch.float32 else 0.02
                )
            assert all(torch.equal(value, own[name].float()) for name, value in Weights.copy(backbone, names).items())
        assert all(torch.equal(backbone.addresses.parameter(name), value.to(dtype)) for name, value in one.items())
    assert all(backbone.addresses.parameter(name) is own[name] for name in names) and not backbone.attached.originals


def test_what_has_no_strength_changes_nothing(backbone, condition):
    plain = backbone.sample(condition, **CALL)
    same = Weights.copy(backbone, [name for name, _ in backbone.net.named_parameters()])
    for nothing in (Identity(), same, PromptGuidance("a red shape", 0.0), Stack(Identity(), same)):
        with nothing.attach(backbone):
            assert torch.equal(backbone.sample(condition, **CALL), plain)


def test_negative_prompt_is_guidance_from_that_prompt(backbone, condition):
    with PromptGuidance("a red shape").attach(backbone):
        edited = backbone.sample(condition, **CALL)
    negative = backbone.encode(["a red shape"])
    backbone._unconditional = lambda condition: negative.repeat(len(condition))
    assert torch.allclose(backbone.sample(condition, **CALL), edited, atol=1e-5)


@pytest.mark.parametrize("agreement", [0.0, 1.0])
def test_negative_prompts_attached_together_each_ask_for_their_own(backbone, condition, agreement):
    red, circle = (PromptGuidance(prompt, 1.0, agreement) for prompt in ("a red shape", "a circle"))
    found = []
    for order in ((red,), (circle,), (red, circle), (circle, red)):
        with Stack(*order).attach(backbone):
            found.append(backbone.sample(condition, **CALL))
    assert torch.allclose(found[2], found[3], atol=1e-4)
    assert not torch.allclose(found[2], found[0], atol=1e-3) and not torch.allclose(found[2], found[1], atol=1e-3)
    with Stack(red, circle).attach(backbone):
        prompts = {role: rows.prompts[0] for role, rows in backbone.guider(condition, 3.0).roles.items()}
    assert prompts["negative"] == "a red shape" and prompts["negative 2"] == "a circle"


def test_negative_prompts_attached_together_add_their_shares(backbone):
    uncond, cond, *negatives = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(0))
    parts = {"uncond": uncond, "cond": cond, "negative": negatives[0], "negative 2": negatives[1]}
    with Stack(PromptGuidance("", 1.0), PromptGuidance("", 0.5)).attach(backbone):
        found = backbone.attached.combine(parts, 0.0)  # at which the conditional prediction has no share
    torch.testing.assert_close(found, negatives[0] + 0.5 * (negatives[1] - uncond))


def test_safety_guidances_attached_together_each_ask_for_their_own(backbone, condition):
    red, circle = (SafetyGuidance(prompt, Safety(warmup=0)) for prompt in ("a red shape", "a circle"))
    found = []
    for order in ((red,), (circle,), (red, circle)):
        with Stack(*order).attach(backbone):
            found.append(backbone.sample(condition, **CALL))
    assert all(not torch.allclose(found[2], one, atol=1e-4) for one in found[:2])
    with Stack(red, circle, PromptGuidance("a cross")).attach(backbone):
        prompts = [rows.prompts[0] for rows in backbone.guider(condition, 3.0).roles.values()]
    assert prompts[2:] == ["a red shape", "a circle", "a cross"]


def test_safety_takes_out_only_the_share_that_directions_agree_in():
    uncond, zeros = torch.zeros(3, 2, 1, 1), torch.zeros(3, 2, 1, 1)
    concept = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(3, -1, -1, -1)
    cond = torch.stack([2 * concept[0], torch.tensor([5.0, 0.0]).view(2, 1, 1), -concept[0]])  # cosines 1, 0.6, -1
    for agreement, shares in ((0.0, (1, 1, 1)), (1.0, (1, 0.6, 0)), (2.0, (1, 0.36, 0))):
        numbers = Safety(scale=1e6, threshold=1e6, momentum_scale=0.0, agreement=agreement)
        wanted = torch.tensor(shares).view(3, 1, 1, 1) * concept
        torch.testing.assert_close(safety_guidance(uncond, cond, concept, zeros, numbers), wanted)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_without_guidance_a_negative_prompt_is_refused(backbone, condition, guidance):
    call = CALL | {"guidance": guidance}
    plain = backbone.sample(condition, **call)
    with PromptGuidance("a red shape", 0.0).attach(backbone):
        assert torch.equal(backbone.sample(condition, **call), plain)
    refused = pytest.raises(ValueError, match=f"changes nothing on tiny at guidance {guidance:g}: it takes above 1")
    with PromptGuidance("a red shape").attach(backbone), refused:
        backbone.sample(condition, **call)
    assert torch.equal(backbone.sample(condition, **call), plain)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_without_guidance_safety_still_takes_its_share(backbone, condition, guidance):
    call = CALL | {"guidance": guidance}
    plain = backbone.sample(condition, **call)
    for safety, same in ((Safety(warmup=0, scale=0), True), (Safety(warmup=9), True), (Safety(warmup=0), False)):
        with SafetyGuidance("a red shape", safety).attach(backbone):
            edited = backbone.sample(condition, **call)
        assert torch.allclose(edited, plain, atol=1e-5) == same
    with SafetyGuidance("a red shape", Safety(scale=0)).attach(backbone):
        assert torch.equal(backbone.sample(condition, **call), plain)


def test_a_role_is_asked_for_once(backbone):
    with edit_guidance(backbone, lambda parts, at: parts, {"negative": "a circle"}):
        assert free_role(backbone, "negative") == "negative 2" and free_role(backbone, "cond") == "cond 2"
        with pytest.raises(ValueError, match="another edit of guidance on tiny has the role 'negative'"):
            edit_guidance(backbone, lambda parts, at: parts, {"negative": "a cross"}).__enter__()
    assert free_role(backbone, "negative") == "negative"


def test_gradients_reach_attached_weights_only(backbone, condition, weights):
    state = next(backbone.states(condition, 1, seed=0))
    with weights.attach(backbone):
        backbone.predict(state, condition).square().mean().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in weights.parameters())
    assert all(parameter.grad is None for parameter in backbone.net.parameters())


def test_damaged_files_are_refused_in_one_line(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match="train the method first"):
        load(tmp_path / "nowhere")
    save(weights, tmp_path)
    file = tmp_path / "intervention.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(tmp_path)
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(tmp_path)
    header = tmp_path / "intervention.json"
    header.write_text("not json")
    with pytest.raises(ValueError, match="not an intervention's header"):
        load(tmp_path)
    for content in ({"class": "os.system", "spec": {}}, {"class": 3, "spec": {}}, ["class"], {"class": "base.Stack"}):
        header.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"intervention\.json: not an intervention's header"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("guidance.PromptGuidance", {"strength": 1.0}),
        ("guidance.PromptGuidance", ["a red shape"]),
        ("base.Stack", {}),
        ("base.Stack", {"parts": [{"class": "no.Class", "spec": {}}]}),
        ("lowrank.LowRank", {"part": "net", "scaling": 1.0}),
        ("adapter.Adapter", {"sites": ["0.cross_attn.out"], "strength": 1.0}),
        ("steering.Steering", {"strengths": {}}),
        ("resample.Resample", {"words": {}, "course": {"last": 1}}),
        ("embedding.Embedding", {"alias": "<new>", "initialiser": "blue", "colour": "blue"}),
    ],
)
def test_files_that_do_not_belong_together_are_refused_by_their_folder(weights, tmp_path, name, spec):
    save(weights, tmp_path)
    (tmp_path / "intervention.json").write_text(json.dumps({"class": name, "spec": spec}))
    with pytest.raises(ValueError, match=f"make no {name.split('.')[1]} \\(\\w*Error: ") as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: intervention.json and intervention.safetensors")


def test_safe_guidance_carries_its_momentum_within_a_run_alone(backbone):
    """What is learned through it predicts at single steps, which are no run; each has a backward pass of its own."""
    safety = Safety(warmup=0, scale=5.0, threshold=10.0, momentum_scale=0.9, momentum_beta=0.4)
    with torch.no_grad():
        conditions = [backbone.encode(["a red circle", "a blue square"]) for _ in range(2)]
        early, late = list(backbone.walk(conditions[0], backbone.begin([1, 2])[0], steps=3, guidance=1.0))[:2]
    backbone.net.requires_grad_(True)

    def predicted(*calls):
        with SafetyGuidance("a red shape", safety).attach(backbone):
            for state, condition in calls:
                made = as_sampled(backbone, state, condition)
                made.square().mean().backward()
        return made.detach()

    torch.testing.assert_close(
        predicted((early, conditions[0]), (late, conditions[1])), predicted((late, conditions[1])), atol=0, rtol=0
    )
