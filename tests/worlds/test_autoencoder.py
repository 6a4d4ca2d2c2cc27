import pytest
import torch
from diffusers import AutoencoderTiny

from stages.worlds.autoencoder import decode, encode, make_autoencoder, train_autoencoder
from stages.worlds.shapes import Shapes

WORLD = Shapes()


@pytest.fixture(scope="module")
def trained() -> tuple[AutoencoderTiny, list[float]]:
    model, history = train_autoencoder(WORLD, seed=0, steps=140, batch=8)
    return model, history.losses


def test_training_lowers_the_loss(trained):
    losses = trained[1]
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])


def test_latents_have_unit_variance_and_an_eighth_of_the_numbers(trained):
    latents = encode(trained[0], WORLD.sample(512, 0).images)
    assert latents.shape == (512, 4, 8, 8)
    assert float(latents.std()) == pytest.approx(1, abs=0.01)


def test_decoding_gives_pictures_and_undoes_encoding_better_than_a_blank(trained):
    images = WORLD.sample(64, 9).images
    pictures = decode(trained[0], encode(trained[0], images))
    assert pictures.shape == images.shape and pictures.min() >= 0 and pictures.max() <= 1
    assert (pictures - images).square().mean() < 0.8 * (images.mean((2, 3), keepdim=True) - images).square().mean()


def test_save_and_load_keep_weights_and_scaling(trained, tmp_path):
    model = trained[0]
    model.save_pretrained(tmp_path)
    loaded, images = AutoencoderTiny.from_pretrained(tmp_path), WORLD.sample(3, 0).images
    assert loaded.config.scaling_factor == model.config.scaling_factor != 1
    assert torch.equal(encode(loaded, images), encode(model, images))


def test_equal_seeds_start_equal_and_leave_the_global_generator():
    state = torch.get_rng_state()
    first, again, other = (next(make_autoencoder(seed).parameters()) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
