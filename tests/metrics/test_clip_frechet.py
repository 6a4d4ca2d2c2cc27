import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from stages.metrics.base import measure
from stages.metrics.clip_frechet import CLIPFrechet
from stages.metrics.clip_score import embed_images, load_clip
from stages.metrics.samples import Samples
from stages.params import build, load_params
from stages.store.pictures import to_pixels

N = 24


def samples(seed, frames=0, shift=0.0):
    size = (N, frames, 3, 20, 24) if frames else (N, 3, 20, 24)
    images = torch.rand(size, generator=torch.Generator().manual_seed(seed)) * (1 - shift) + shift
    return Samples(images, [{"prompt": "a red circle", "seed": i} for i in range(N)], {"colour": "red"})


def found(metric, edited, original):
    return {row["metric"]: row for row in measure(metric, "m", {"concept": edited}, {"concept": original})["rows"]}


def distance(x, y):
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)), by scipy's root."""
    (m, s), (n, t) = ((v.mean(0), np.cov(v.T)) for v in (x.double().numpy(), y.double().numpy()))
    return ((m - n) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)


def test_it_is_the_distance_of_the_gaussians_of_clips_vectors(clip_folder):
    edited, original = samples(0), samples(1, shift=0.5)
    model, _ = load_clip(clip_folder)
    row = found(CLIPFrechet(model=clip_folder), edited, original)["clip_frechet_unedited"]
    wanted = distance(*(embed_images(model, part.images) for part in (edited, original)))
    assert row["value"] == pytest.approx(wanted, rel=1e-5) and row["n"] == N


def test_equal_samples_are_at_no_distance_and_nothing_real_means_no_other(clip_folder):
    row = found(CLIPFrechet(model=clip_folder), samples(0), samples(0))
    assert list(row) == ["clip_frechet_unedited"]
    assert row["clip_frechet_unedited"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_folder_of_real_pictures_is_cropped_to_size_and_compared(clip_folder, tmp_path):
    real = samples(2, shift=0.3)
    for i, picture in enumerate(to_pixels(real.images)):
        Image.fromarray(picture).save(tmp_path / f"{i:02d}.png")
    Image.new("RGB", (90, 70)).save(tmp_path / "99.png")
    metric, edited = CLIPFrechet(model=clip_folder, real=str(tmp_path)), samples(0)
    value = found(metric, edited, edited)["clip_frechet_real"]["value"]
    model, _ = load_clip(clip_folder)
    seen = torch.cat([(real.images * 255).round() / 255, torch.zeros(1, 3, 20, 24)])
    assert value == pytest.approx(distance(embed_images(model, edited.images), embed_images(model, seen)), rel=1e-4)


def test_frames_of_clips_are_pictures(clip_folder):
    edited, original = samples(0, frames=2), samples(1, frames=2)
    row = found(CLIPFrechet(model=clip_folder), edited, original)["clip_frechet_unedited"]
    model, _ = load_clip(clip_folder)
    wanted = distance(*(embed_images(model, part.images.flatten(0, 1)) for part in (edited, original)))
    assert row["value"] == pytest.approx(wanted, rel=1e-5) and row["n"] == N


def test_a_folder_that_is_not_there_is_named(clip_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no PNG or JPEG pictures"):
        found(CLIPFrechet(model=clip_folder, real=str(tmp_path / "nowhere")), samples(0), samples(0))


def test_its_file_builds_it():
    assert build(load_params("metrics", "clip_frechet"), "clip_frechet") == CLIPFrechet()
