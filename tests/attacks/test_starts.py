"""Runs that begin where they are told, and shifted samplers: at the ends of their ranges they are what they must be."""

import pytest
import torch

from stages.attacks.latent_start import LatentStart
from stages.attacks.sampler_shift import SamplerShift
from stages.attacks.shared.tokens_of import picture_tokens
from stages.attacks.tina import TINA
from stages.interventions.guidance import PromptGuidance
from stages.interventions.shifts import Shift, Shifts
from stages.interventions.starts import Coarse, Inverted, Noised, Path
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

RUN = {"steps": 4, "guidance": 3.0}


def latents_of(backbone, prompts):
    run = {"steps": 4, "guidance": 3.0}
    start, owners = backbone.begin(list(range(len(prompts))))
    *_, last = backbone.walk(backbone.encode(prompts), start, **run, generators=owners)
    return last.latent


def test_a_start_at_strength_1_is_ordinary_sampling(backbone):
    prompts = ["a red circle", "a blue square"]
    plain = backbone.sample(backbone.encode(prompts), seeds=[3, 4], **RUN)
    starts = Noised(latents_of(backbone, prompts), strength=1.0)
    asked = [starts.marked(prompt, way) for way, prompt in enumerate(prompts)]
    with starts.attach(backbone):
        found = backbone.sample(backbone.encode(asked), seeds=[3, 4], **RUN)
    torch.testing.assert_close(found, plain)  # one row at a time, so not to the last bit


def test_the_less_is_left_to_the_network_the_nearer_is_the_picture(backbone):
    prompts = ["a red circle", "a blue square"]
    clean = latents_of(backbone, prompts)
    wanted = backbone.decode(clean)
    far = []
    for strength in (0.25, 0.5, 1.0):
        starts = Noised(clean, strength=strength)
        asked = [starts.marked(prompt, way) for way, prompt in enumerate(prompts)]
        with starts.attach(backbone):
            pictures = backbone.sample(backbone.encode(asked), seeds=[8, 9], **RUN)
        far.append(float((pictures - wanted).square().mean()))
    assert far[0] < far[1] < far[2]


def test_marked_and_unmarked_prompts_in_one_batch(backbone):
    prompts = ["a red circle", "a blue square"]
    starts = Noised(latents_of(backbone, prompts), strength=0.5)
    with starts.attach(backbone):
        alone = backbone.sample(backbone.encode([starts.marked("a red circle", 1)]), seeds=[5], **RUN)
        mixed = backbone.sample(
            backbone.encode(["a green ring", starts.marked("a red circle", 1), "a green ring"]), seeds=[1, 5, 2], **RUN
        )
    plain = backbone.sample(backbone.encode(["a green ring"] * 2), seeds=[1, 2], **RUN)
    torch.testing.assert_close(mixed[1:2], alone)
    torch.testing.assert_close(mixed[[0, 2]], plain)


@pytest.mark.parametrize("family", ["unet", "sd3", "flux-schnell", "cogvideox-2b"])
def test_an_inverted_latent_comes_back(family):
    """eps, v and flows; also where the last time is pure noise."""
    backbone = FAMILIES[family].make(steps=2)
    clean = torch.randn((2, *backbone.latent_shape()), generator=torch.Generator().manual_seed(0))
    attack = TINA(steps=4, iterations=60, lr=0.01, weight_decay=0.0)
    path, null = Path(backbone, attack.steps), backbone.encode([""])
    noise = attack.inverted(path, clean, null)
    refined = path.down(noise, null.repeat(2))[-1]
    latent = clean
    with torch.no_grad():
        for number in range(len(path)):
            latent = attack.guess(path, number, latent, null.repeat(2))
        plain = path.down(latent, null.repeat(2))[-1]
    error, before = ((each - clean).square().mean() for each in (refined, plain))
    assert error < before or error < 1e-6
    assert error < 0.05
    starts = Inverted(noise, steps=attack.steps)
    with starts.attach(backbone), torch.no_grad():
        found = backbone.sample(backbone.encode([starts.marked("", 1)]), seeds=[0], steps=2, guidance=1.0)
    torch.testing.assert_close(found, backbone.decode(refined[1:].detach()), atol=1e-5, rtol=0)


def test_all_scales_of_a_picture_are_that_picture():
    backbone = tiny_infinity.make(steps=4)
    size = backbone.picture_size()
    pictures = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
    tokens = picture_tokens(backbone, pictures)
    scales = len(backbone.schedule)
    starts = Coarse(tokens, scales=scales)
    with starts.attach(backbone):
        asked = [starts.marked("a red circle", way) for way in range(2)]
        given, again = (
            backbone.sample(backbone.encode(asked), seeds=seeds, steps=scales, guidance=2.0)
            for seeds in ([0, 1], [7, 8])
        )
    assert torch.equal(given, again) and not torch.equal(given[0], given[1])
    none = Coarse(tokens, scales=0)
    with none.attach(backbone):
        ordinary = backbone.sample(
            backbone.encode([none.marked("a red circle", 0)]), seeds=[3], steps=scales, guidance=2.0
        )
    settings = backbone.settings
    plain = backbone.sample(backbone.encode(["a red circle"]), seeds=[3], steps=scales, guidance=settings.guidance)
    assert torch.equal(ordinary, plain)


def test_shifts_are_what_they_say_and_the_settings_come_back(backbone):
    prompt, own = "a red circle", (backbone.settings, backbone.scheduler)
    shifts = Shifts([Shift(), Shift(steps=0.5), Shift(guidance=2.0), Shift(solver="EulerDiscreteScheduler")])
    plain = [
        backbone.sample(backbone.encode([prompt]), seeds=[1], steps=steps, guidance=guidance)
        for steps, guidance in ((4, 3.0), (2, 3.0), (4, 6.0))
    ]
    with shifts.attach(backbone):
        found = [backbone.sample(backbone.encode([shifts.marked(prompt, way)]), seeds=[1], **RUN) for way in range(4)]
    assert all(torch.equal(*pair) for pair in zip(found[:3], plain, strict=True))
    assert not torch.equal(found[3], found[0]) and found[3].isfinite().all()
    assert (backbone.settings, backbone.scheduler) == own


def test_a_defence_in_the_sampler_stays_inside_a_shift(backbone):
    shifts = Shifts([Shift(guidance=0.2)])
    defence = PromptGuidance("a red circle")
    asked = shifts.marked("a red circle", 0)
    with defence.attach(backbone), shifts.attach(backbone), pytest.raises(ValueError, match="takes above 1"):
        backbone.sample(backbone.encode([asked]), seeds=[0], **RUN)


def test_a_bit_models_shifts_are_of_temperature_and_top_p():
    backbone = tiny_infinity.make(steps=4)
    ways = SamplerShift().shifts(backbone)
    assert {way.temperature for way in ways} == {0.5, 1.0, 2.0} and any(way.top_p == 0.5 for way in ways)
    assert not any(way.solver or way.steps != 1 for way in ways)


def test_the_starts_are_the_unedited_networks(backbone, concept):
    attempt = LatentStart(strength=0.5).search(backbone, concept, seed=0)
    assert attempt.starts == concept.prompts and len(attempt.intervention.states) == len(concept.prompts)
    assert all(prompt.startswith(start) for prompt, start in zip(attempt.prompts, attempt.starts, strict=True))
