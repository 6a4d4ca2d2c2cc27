"""What released code does beside its paper: fresh states of the frozen network, the bare word, its own numbers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import FluxTransformer2DModel

from stages.backbones.mmdit import flux_sites
from stages.backbones.text.texts import Texts
from stages.control.addresses import Addresses
from stages.interventions.masks.places import find_places, sizes
from stages.methods import load_method
from stages.methods.shared.base import reached
from tests.methods.cut_down import cut_down


class Probe:
    """An intervention that says when it is attached."""

    def __init__(self):
        self.times = 0

    def attach(self, backbone):
        self.times += 1
        raise AssertionError("attached")


@pytest.fixture
def walks(backbone, monkeypatch):
    """The runs that are begun: prompts, guidance and the first noise of each."""
    begun, walk = [], backbone.walk

    def noted(condition, latent, **options):
        begun.append((condition.prompts, options["guidance"], latent.clone(), dict(backbone.attached.originals)))
        return walk(condition, latent, **options)

    monkeypatch.setattr(backbone, "walk", noted)
    return begun


def test_fresh_states_are_new_ones_of_the_frozen_network_at_the_guidance_that_is_asked_for(backbone, walks):
    condition, generator = backbone.encode(["a red circle"]), torch.Generator().manual_seed(0)
    for _ in range(3):
        reached(backbone, Probe(), condition, generator, "fresh", 5.0)
    assert [guidance for _, guidance, *_ in walks] == [5.0] * 3
    assert not torch.equal(walks[0][2], walks[1][2]) and not torch.equal(walks[1][2], walks[2][2])


def test_esd_as_released_samples_anew_at_its_guidance_and_asks_for_the_word_alone(backbone, walks, concept):
    method = load_method("esd_x_released", "sd14")
    assert (method.guidance, method.scale, method.steps, method.lr) == (3.0, 2.0, 200, 5e-5)
    cut_down(method, steps=4, batch=1).fit(backbone, replace(concept, words=("red",)), seed=0)
    assert [(prompts, guidance) for prompts, guidance, *_ in walks] == [(("red",), 3.0)] * 4  # and no pool at 7.5
    assert len({tuple(latent.flatten().tolist()) for *_, latent, _ in walks}) == 4
    assert not any(swapped for *_, swapped in walks)


def test_esd_as_released_has_other_numbers_for_sdxl():
    method = load_method("esd_x_released", "sdxl")
    assert (method.guidance, method.scale, method.steps, method.lr) == (2.0, 1.0, 200, 2e-4)


@pytest.fixture(scope="module")
def flux():
    """FLUX.1-schnell's own structure, without memory for its weights."""
    with torch.device("meta"):
        net = FluxTransformer2DModel(guidance_embeds=False)
    sites = flux_sites(net, text=256)
    addresses = Addresses("flux-schnell", net, sites, Texts("flux-schnell"))
    return SimpleNamespace(name="flux-schnell", net=net, sites=sites, addresses=addresses)


@pytest.mark.parametrize("preset", ["minimalist_released", "minimalist"])
def test_minimalist_masks_what_the_release_masks_on_flux(flux, preset):
    places = find_places(flux, load_method(preset, "flux-schnell").masks)
    numbers = sizes(flux, places)
    feeds = [name for name in places if ".ff.hidden" in name]
    assert (len(places), sum(numbers.values())) == (57, 817_152)
    assert (len(feeds), sum(numbers[name] for name in feeds)) == (38, 38 * 12_288)
    assert {flux.addresses.tap(places[name][0]).module.rpartition(".")[2] for name in feeds} == {"0"}  # ff.net.0


def test_all_hidden_channels_of_flux_are_more_than_the_release_masks(flux):
    places = find_places(flux, ["hidden", "norm"])
    assert (len(places), sum(sizes(flux, places).values())) == (95, 1_284_096)


def test_minimalist_as_released_takes_two_samples_of_each_kind_a_step_and_leaves_the_norms_of_sd3():
    method = load_method("minimalist_released", "flux-schnell")
    assert (method.batch * method.accumulate, method.seeds, method.beta, method.steps) == (2, 1, 0.1, 80)
    assert method.masks == ("ff", "norm") and load_method("minimalist_released", "sd3-medium").masks == ("ff",)
