"""What a guidance comes to on every family: rows per call of the network, and the guidance that it is told.

In every way that leads there: sampling, pools, partial samples, FlowEdit, unrolled runs, attacks.
"""

from contextlib import contextmanager

import pytest
import torch

from stages.attacks.sampler_shift import SamplerShift
from stages.control.edits import edit_activations
from stages.interventions.flowedit import Course, Resample
from stages.interventions.guidance import PromptGuidance
from stages.interventions.shifts import Shift, Shifts
from stages.interventions.sld import Safety, SafetyGuidance
from stages.interventions.starts import as_sampled
from stages.methods.flowedit import FlowEdit
from stages.methods.minimalist import Minimalist
from stages.methods.shared.base import partial
from stages.params import load_params, names
from stages.params.concept import Concept
from stages.reading.unroll import Replay, keeps_history
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES, PROMPTS

RED = Concept("red", ("a red circle",), ("a circle",), ("a blue square",))
TOLD = {"flux-dev": 3.5}  # distilled to be told its guidance; the settings' own
WITHOUT = ("flux-schnell", "xl-turbo")  # distilled to be sampled without
ALL = [*FAMILIES, "infinity"]
FLOWS = ["sd3", "sd35", "flux-dev", "flux-schnell", "sana-euler", "wan-euler"]


@pytest.fixture(scope="module")
def backbones():
    known = {}

    def make(name):
        if name not in known:
            settings = {"guidance": TOLD.get(name, 0.0 if name in WITHOUT else 3.0)}
            known[name] = tiny_infinity.make() if name == "infinity" else FAMILIES[name].make(**settings)
        return known[name]

    return make


@contextmanager
def watched(backbone):
    """Collects (roles of the rows, guidances that are told) of each call of the network while open."""
    calls, told = [], []

    def note(module, args, kwargs):
        guidance = kwargs.get("guidance")
        told.append(None if guidance is None else sorted({round(value, 4) for value in guidance.tolist()}))

    def count(value, at):
        rows = {role: len(range(*part.indices(len(value)))) for role, part in at.roles.items()}
        assert len(value) == sum(rows.values()) or not rows  # no roles in the loss of a training from scratch
        calls.append((rows, told[-1] if told else None))
        return value

    handle = backbone.net.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with edit_activations(backbone, {next(iter(backbone.sites)): count}), torch.no_grad():
            yield calls
    finally:
        handle.remove()


def seen(calls):
    """The different calls, in order."""
    return [call for i, call in enumerate(calls) if call not in calls[:i]]


def expected(name, guidance, rows=2):
    """The calls that a guidance comes to on a family, for so many rows."""
    if name in TOLD:
        return [({"cond": rows}, [guidance])]
    if name in WITHOUT or guidance <= 1:
        return [({"cond": rows}, None)]
    if name.startswith("wan"):
        return [({"cond": rows}, None), ({"uncond": rows}, None)]
    return [({"cond": rows, "uncond": rows}, None)]


@pytest.mark.parametrize("guidance", [None, 3.0, 1.0])
@pytest.mark.parametrize("name", ALL)
def test_sampling(backbones, name, guidance):
    backbone = backbones(name)
    asked = backbone.settings.guidance if guidance is None else guidance
    with watched(backbone) as calls:
        backbone.sample(backbone.encode(PROMPTS), seeds=[0, 1], steps=2, guidance=asked)
    assert seen(calls) == expected(name, asked)


@pytest.mark.parametrize("name", ALL)
def test_pools_are_sampled_at_the_settings_guidance(backbones, name):
    backbone = backbones(name)
    with watched(backbone) as calls:
        backbone.gather(["a red cross"], 0)
    assert seen(calls) == expected(name, backbone.settings.guidance)


@pytest.mark.parametrize("name", [name for name in ALL if name != "infinity"])  # which has no run to stop
def test_partial_samples(backbones, name):
    backbone = backbones(name)
    with watched(backbone) as calls:
        for seed in range(4):
            partial(backbone, backbone.encode(PROMPTS), torch.Generator().manual_seed(seed), 3.0)
    assert seen(calls) == expected(name, 3.0)


@pytest.mark.parametrize("name", [name for name in ALL if name != "infinity"])
def test_unrolled_runs(backbones, name):
    backbone = backbones(name)
    if keeps_history(backbone.scheduler):
        pytest.skip("its steps cannot be taken again")
    run = Replay(backbone, backbone.encode(PROMPTS), seeds=[0, 1], steps=2, guidance=backbone.settings.guidance)
    with watched(backbone) as calls:
        run(1, run(0, backbone.noise([0, 1])))
    assert seen(calls) == expected(name, backbone.settings.guidance)


@pytest.mark.parametrize("name", ["flux-dev", "flux-schnell", "xl-turbo", "unet"])
def test_a_minimalist_training(backbones, name):
    backbone = backbones(name)
    method = Minimalist(masks=("hidden",), steps=1, seeds=2, batch=1, sampler_steps=2, beta=0.1)
    calls = []
    note = backbone.net.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((len(args[0]), kwargs.get("guidance"))), with_kwargs=True
    )
    try:
        method.fit(backbone, RED, seed=0)
    finally:
        note.remove()
    rows = 2 if name == "unet" else 1  # per picture
    assert {size for size, _ in calls} == {2 * rows}  # two noises; a concept's picture and a retained one
    assert all((told is not None) == (name in TOLD) for _, told in calls)
    assert all(told.unique().tolist() == [3.5] for _, told in calls if told is not None)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_edit(backbones, name):
    backbone = backbones(name)
    source, target = (backbone.encode([prompt]) for prompt in PROMPTS)
    edits = Resample({}, Course(2, plain=1), 1.5, 5.5)
    with watched(backbone) as calls:
        edits.edited(backbone, backbone.noise([0]), source, target, [0], 2)
    assert seen(calls) == seen([*expected(name, 1.5, 1), *expected(name, 5.5, 1)])


@pytest.mark.parametrize("name", ALL)
def test_attacks_meet_a_defence_by_guidance_as_it_samples(backbones, name):
    backbone = backbones(name)
    condition, state = backbone.encode(PROMPTS), next(backbone.states(backbone.encode(PROMPTS), 1, seed=0))
    with SafetyGuidance("a red circle", Safety(warmup=0)).attach(backbone), watched(backbone) as calls:
        as_sampled(backbone, state, condition)
        attacked = list(calls)
        calls.clear()
        guidance = backbone.settings.guidance
        backbone.sample(condition, seeds=[0, 1], steps=1, guidance=guidance)
    assert sorted(map(str, seen(attacked))) == sorted(map(str, seen(calls)))
    told = {str(told) for _, told in attacked}
    assert told == {str([3.5]) if name in TOLD else "None"}
    assert sum(sum(rows.values()) for rows, _ in seen(attacked)) == 3 * 2  # empty, prompt, concept


def test_a_shift_of_guidance_tells_another_one_and_spares_what_has_none(backbones):
    found = {name: SamplerShift().shifts(backbones(name)) for name in ("flux-dev", "flux-schnell", "xl-turbo", "unet")}
    assert {name: [one.guidance for one in shifts if one.guidance != 1] for name, shifts in found.items()} == {
        "flux-dev": [0.5, 2.0],
        "flux-schnell": [],
        "xl-turbo": [],
        "unet": [0.5, 2.0],
    }
    backbone, shifts = backbones("flux-dev"), Shifts([Shift(guidance=2.0)])
    with shifts.attach(backbone), watched(backbone) as calls:
        condition = backbone.encode([shifts.marked(PROMPTS[0], 0)])
        backbone.sample(condition, seeds=[0], steps=1, guidance=backbone.settings.guidance)
    assert seen(calls) == [({"cond": 1}, [7.0])]


def test_methods_train_a_distilled_network_at_its_training_guidance(backbones):
    backbone = backbones("flux-dev")
    condition = backbone.encode(PROMPTS)
    with watched(backbone) as calls:
        backbone.predict(next(backbone.states(condition, 1, seed=0)), condition)
        backbone.training_loss(backbone.noise([0, 1]), PROMPTS, torch.Generator().manual_seed(0), 1)
    assert [told for _, told in calls[-2:]] == [[1.0], [1.0]]


def test_what_is_sampled_without_guidance_says_so_once(caplog):
    backbone = FAMILIES["xl-turbo"].make(guidance=0.0)
    for guidance in (0.0, 3.0, 7.5):
        backbone.sample(backbone.encode(PROMPTS[:1]), seeds=[0], steps=1, guidance=guidance)
    assert [record.getMessage() for record in caplog.records] == [
        "tiny: guidance 3 is not applied: it is sampled without any (its guidance is 0)"
    ]


@pytest.mark.parametrize(
    ("name", "guidance", "message"),
    [
        ("flux-dev", 3.5, "which is told its guidance and has no pass without the prompt"),
        ("flux-schnell", 3.0, r"which is sampled without guidance \(its own is 0\)"),
        ("unet", 1.0, "at guidance 1: it takes above 1"),
    ],
)
def test_a_negative_prompt_is_refused_where_nothing_is_guided_away_from(backbones, name, guidance, message):
    backbone = backbones(name)
    with PromptGuidance("a red circle").attach(backbone), pytest.raises(ValueError, match=message):
        backbone.sample(backbone.encode(PROMPTS), seeds=[0, 1], steps=1, guidance=guidance)


def test_the_shipped_checkpoints_mean_what_their_cards_say():
    """Few-step ones are sampled without guidance, and dev is told what its pipeline tells it by default."""
    own = {name: load_params("backbones", name)["guidance"] for name in names("backbones")}
    assert own["flux-dev"] == 3.5
    published = [name for name in own if not load_params("backbones", name).get("world")]
    few = {name for name in published if load_params("backbones", name)["steps"] <= 4}
    assert few >= {"flux-schnell", "sdxl-turbo"} and {own[name] for name in few} == {0.0}


def test_flowedit_runs_on_what_has_no_guidance(backbones):
    backbone = backbones("flux-schnell")
    condition = backbone.encode(["a red circle"])
    call = {"seeds": [0], "steps": 2, "guidance": 0.0}
    plain = backbone.sample(condition, **call)
    with FlowEdit(first=2, steps_of=2).fit(backbone, RED, seed=0).attach(backbone), watched(backbone) as calls:
        edited = backbone.sample(condition, **call)
    assert not torch.equal(edited, plain) and seen(calls) == [({"cond": 1}, None)]
