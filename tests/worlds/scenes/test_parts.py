"""The autoencoder and the tokenizer of scenes: they learn, they repeat, and they fit the backbones' latents."""

import pytest
import torch
from torch import Tensor, nn

from Infinity import Schedule, Tokenizer
from stages.seeds import Purpose, generator
from stages.worlds.autoencoder import decode, encode
from stages.worlds.scenes import train_autoencoder as autoencoders
from stages.worlds.scenes.train_autoencoder import crops, make_autoencoder, train_autoencoder
from stages.worlds.scenes.train_tokenizer import CONFIG, train_tokenizer
from stages.worlds.scenes.world import Scenes
from stages.worlds.tokenizer import SCALES

WORLD = Scenes()


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pictures as so short trainings see."""
    monkeypatch.setattr(autoencoders, "FRESH", 64)


def train(steps: int = 140) -> tuple[nn.Module, list[float]]:
    model, history = train_autoencoder(WORLD, seed=0, steps=steps)
    return model, history.losses


def test_training_the_autoencoder_lowers_the_error_and_scales_the_latents():
    model, losses = train()
    assert sum(losses[-6:]) < 0.5 * sum(losses[:6])
    images = WORLD.sample(512, 0).images
    latents = encode(model, images)
    assert latents.shape == (512, 16, 8, 8) and float(latents.std()) == pytest.approx(
        1, abs=0.05
    )  # scaled on other pictures
    pictures = decode(model, latents[:32])
    grey = (images[:32] - images[:32].mean((2, 3), keepdim=True)).square().mean()
    assert (pictures - images[:32]).square().mean() < 0.8 * grey


def test_training_the_autoencoder_repeats():
    first, again = (train(8)[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_the_last_steps_see_whole_pictures(monkeypatch):
    seen: list[Tensor] = []
    keep = autoencoders.reconstruction_loss
    monkeypatch.setattr(
        autoencoders, "reconstruction_loss", lambda m, x, noise, owner: seen.append(x) or keep(m, x, noise, owner)
    )
    train_autoencoder(WORLD, seed=0, steps=10, batch=4, whole=0.2)
    assert [tuple(x.shape) for x in seen] == [(4, 3, 32, 32)] * 8 + [(2, 3, 64, 64)] * 2


def test_crops_lie_on_the_grid_of_the_latents():
    images = torch.arange(64 * 64).view(1, 1, 64, 64).expand(3, 3, 64, 64).clone()
    cut = crops(images, torch.tensor([0, 1, 2, 2, 1, 0]), generator(Purpose.STEP, 0))
    corners = cut[:, 0, 0, 0]
    assert cut.shape == (6, 3, 32, 32)
    assert all(int(c) // 64 % 8 == 0 and int(c) % 64 % 8 == 0 for c in corners) and len(set(corners.tolist())) > 1
    assert torch.equal(cut[0, 0] - cut[0, 0, 0, 0], images[0, 0, :32, :32])


def test_an_untrained_autoencoder_keeps_the_size_of_its_signals():
    """Pictures come out near grey, and latents neither vanish nor blow up."""
    model, images = make_autoencoder(0), WORLD.sample(16, 3).images
    with torch.no_grad():
        latents = model.encode(2 * images - 1).latents
        pictures = model.decode(latents).sample
    assert 0.02 < float(latents.std()) < 10
    assert abs(float(pictures.mean())) < 0.5 and float(pictures.std()) < 1


def test_training_the_tokenizer_lowers_the_error_and_is_saved_whole(tmp_path):
    images, scales = 2 * WORLD.sample(16, 1).images - 1, Schedule.of(*SCALES)
    model, _ = train_tokenizer(WORLD, seed=0, steps=100, batch=4)
    with torch.no_grad():
        before, after = (
            (net(images, scales)[0] - images).square().mean() for net in (Tokenizer(CONFIG, seed=0), model)
        )
    assert after < 0.5 * before
    model.save_pretrained(tmp_path)
    bits = model.encode(images, scales).bits
    assert [tuple(one.shape) for one in bits] == [(16, side, side, 32) for side in SCALES]
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.decode_bits(bits, scales), model.decode_bits(bits, scales))


def test_training_the_tokenizer_repeats():
    first, again = (train_tokenizer(WORLD, seed=0, steps=6, batch=2)[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
