"""What is particular to clips: their latents, the autoencoder of frames, passes of one role each, files, metrics."""

import pytest
import torch

from stages.backbones.core.frames import FrameAutoencoder
from stages.control.edits import edit_activations
from stages.control.sites import Site
from stages.metrics.base import measure
from stages.metrics.rates import Rates
from stages.metrics.samples import read_samples
from stages.params.asked import asked
from stages.params.concept import load_concept
from stages.reading.unroll import Replay
from stages.store.pictures import read_metadata, read_picture
from stages.store.samples import draw, write_folder
from stages.worlds.autoencoder import make_autoencoder
from stages.worlds.judge import Judge
from stages.worlds.shapes import Shapes
from tests.backbones.families import FAMILIES, PROMPTS, SEEDS


@pytest.mark.parametrize(("name", "latent", "clip"), [("cogvideox-2b", (3, 4, 2, 4), 9), ("wan", (2, 16, 2, 4), 5)])
def test_clips_and_their_latents_have_frames_before_channels(made, name, latent, clip):
    backbone = made(name)
    clips = backbone.sample(backbone.encode(PROMPTS), seeds=SEEDS, steps=1, guidance=1.0)
    assert backbone.latent_shape() == latent and clips.shape == (2, clip, 3, 16, 32)
    assert backbone.embed(clips).shape == (2, *latent)


def test_wans_latents_are_of_mean_0_and_variance_1_by_channel(made):
    backbone = made("wan")
    config, latent = backbone.vae.config, torch.randn(2, 16, 2, 2, 4, generator=torch.Generator().manual_seed(0))
    plain = backbone.unscaled(latent)
    assert torch.allclose(plain[:, 3], latent[:, 3] * config.latents_std[3] + config.latents_mean[3], atol=1e-6)
    assert torch.allclose(backbone.scaled(plain), latent, atol=1e-5)


def test_text_stands_before_the_video_in_its_sites(made, query):
    backbone = made("cogvideox-5b")
    state, condition = query(backbone)
    shapes = {}
    with edit_activations(backbone, {s: lambda v, at: shapes.update({at.site: v.shape}) or v for s in backbone.sites}):
        backbone.predict(state, condition)
    sequences = {site: shape[1] for site, shape in shapes.items() if len(shape) == 3}
    assert {n for site, n in sequences.items() if site.stream == "text"} == {backbone.texts.length}
    assert {n for site, n in sequences.items() if site.stream == "image"} == {3 * 2}
    assert not any(site.stream == "text" and site.block == 1 for site in backbone.sites)
    assert Site(0, "ff", "hidden", "text") in sequences and Site(1, "attn", "heads") in sequences


def test_wan_shows_an_edit_one_role_at_a_time(made, query):
    backbone = made("wan")
    state, condition = query(backbone)
    seen = []
    site = backbone.select("cross_attn")[0]
    with edit_activations(backbone, {site: lambda v, at: seen.append((dict(at.roles), len(v), at.step)) or v}):
        backbone.guider(condition, 3.0)(state)
    assert seen == [({"cond": slice(0, 2)}, 2, 1), ({"uncond": slice(0, 2)}, 2, 1)]


def test_a_solver_whose_history_its_caller_keeps_is_known_to_have_one(made):
    with pytest.raises(ValueError, match="CogVideoXDPMScheduler keeps a history of steps"):
        Replay(made("cogvideox-5b"), made("cogvideox-5b").encode(PROMPTS), seeds=[0, 1], steps=2, guidance=1.0)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("cogvideox-2b", {"frames": 10}, r"tiny: frames must be 1 \+ 4 n, got 10"),
        ("wan", {"frames": 6}, r"tiny: frames must be 1 \+ 4 n, got 6"),
        ("cogvideox-2b", {"text_length": 7}, "tiny: text_length must be 12: its positions begin there"),
    ],
)
def test_a_size_that_the_family_cannot_have_is_refused(name, changed, message):
    with pytest.raises(ValueError, match=message):
        FAMILIES[name].make(**changed)


# the autoencoder of frames


def test_each_frame_is_encoded_by_itself_and_comes_back_at_its_place():
    picture = make_autoencoder(0).eval()
    frames = FrameAutoencoder.of(picture)
    clips = 2 * Shapes().clips(2, 0).images.transpose(1, 2) - 1  # (B, 3, F, H, W)
    (latents,) = frames.encode(clips)
    assert latents.shape == (2, 16, 3, 8, 8)
    sixth = picture.encode(clips[:, :, 6]).latents
    assert torch.allclose(latents[:, 4:8, 2], sixth, atol=1e-5)  # frames 5 to 8 share the last latent frame
    whole = frames.decode(latents).sample
    alone = picture.decode(picture.encode(clips.transpose(1, 2).flatten(0, 1)).latents).sample
    assert torch.allclose(whole.transpose(1, 2).flatten(0, 1), alone, atol=1e-5)
    assert torch.equal(frames.decode(latents, return_dict=False)[0], whole)
    with pytest.raises(ValueError, match=r"1 \+ 4 n frames, got 8"):
        frames.encode(clips[:, :, :8])


def test_it_is_saved_in_diffusers_format(tmp_path):
    frames = FrameAutoencoder.of(make_autoencoder(0))
    frames.save_pretrained(tmp_path)
    again = FrameAutoencoder.from_pretrained(tmp_path)
    assert again.config.scaling_factor == frames.config.scaling_factor
    assert all(torch.equal(value, frames.state_dict()[name]) for name, value in again.state_dict().items())


# files and metrics


def test_clips_are_written_losslessly_read_back_and_judged(made, tmp_path):
    backbone, concept = made("cogvideox-2b"), load_concept("red_clip")
    rows = asked(concept, "concept", 3)
    write_folder(backbone, rows, tmp_path / "concept")
    clips = draw(backbone, rows)
    read = torch.stack([read_picture(tmp_path / "concept", row) for row in read_metadata(tmp_path / "concept")])
    assert read.shape == clips.shape and (read - clips).abs().max() <= 0.5 / 255 + 1e-6
    assert (tmp_path / "concept" / "0001.webp").stat().st_size > 0
    assert len(list((tmp_path / "concept" / "0001").glob("*.png"))) == 9
    Judge(Shapes().colours, Shapes().shapes, width=4, depth=4).save(tmp_path / "judge")
    samples = {"concept": read_samples(tmp_path / "concept", concept.target)}
    found = measure(Rates(judge=str(tmp_path / "judge"), draws=10), "rates", samples, samples)
    assert {"target_rate", "shape_rate", "direction_rate"} <= {row["metric"] for row in found["rows"]}
