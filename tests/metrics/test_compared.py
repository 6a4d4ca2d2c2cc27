"""FID, KID and CMMD on random networks, against the papers' formulas written out with numpy and scipy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch.nn import functional

from stages.metrics import compared
from stages.metrics.base import Column, measure
from stages.metrics.clip_score import load_clip
from stages.metrics.cmmd import CMMD
from stages.metrics.compared import folder_summary
from stages.metrics.frechet import root_trace
from stages.metrics.inception import Inception, clean_resized, load_inception
from stages.metrics.samples import Samples

N = 30


def samples(seed=0, n=N, frames=0, dark=1.0):
    size = (n, frames, 3, 40, 48) if frames else (n, 3, 40, 48)
    images = torch.rand(size, generator=torch.Generator().manual_seed(seed)) * dark
    return Samples((255 * images).byte(), [{"prompt": f"{i}", "seed": i, "file": f"{i}.png"} for i in range(n)], {})


def pictures(folder, n=40, seed=7):
    """Real pictures of two sizes."""
    folder.mkdir()
    source = np.random.default_rng(seed)
    for i in range(n):
        pixels = source.integers(0, 200, (50 if i % 3 else 64, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return folder


def values(metric, edited, original=None):
    content = measure(metric, "m", {"retain": edited}, original and {"retain": original})
    return {row["metric"]: row["value"] for row in content["rows"]}


def features_of(path, arrays):
    """Each picture resized and embedded alone, as clean-fid does."""
    network = torch.jit.load(path).eval()
    rows = []
    for pixels in arrays:
        channels = [Image.fromarray(pixels[:, :, i].astype(np.float32)).resize((299, 299), 3) for i in range(3)]
        image = torch.from_numpy(np.stack([np.asarray(one).clip(0, 255) for one in channels]))
        with torch.no_grad():
            rows.append(network(((image - 128) / 128)[None])[0].double().numpy())
    return np.stack(rows)


def arrays(given):
    return [np.ascontiguousarray(one.movedim(0, -1)) for one in given.images.flatten(0, -4)]


def fid(x, y):
    (m, s), (n, t) = ((v.mean(0), np.cov(v, rowvar=False)) for v in (x, y))
    return ((m - n) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)


def kid(x, y):
    """Of all rows, of which there are equally many."""
    n = len(x)
    within = sum(((v @ v.T / v.shape[1] + 1) ** 3)[~np.eye(n, dtype=bool)].sum() for v in (x, y)) / (n * (n - 1))
    return within - 2 * ((x @ y.T / x.shape[1] + 1) ** 3).mean()


@pytest.mark.parametrize("frames", [0, 2])
def test_fid_and_kid_are_clean_fids_formulas(inception_file, frames):
    edited, original = samples(0, frames=frames), samples(1, frames=frames, dark=0.6)
    found = values(Inception(weights=inception_file), edited, original)
    x, y = (features_of(inception_file, arrays(one)) for one in (edited, original))
    n = N * max(frames, 1)
    assert set(found) == {f"fid_unedited_n{n}", f"kid_unedited_n{n}"}
    assert found[f"fid_unedited_n{n}"] == pytest.approx(fid(x, y), rel=1e-4)
    assert found[f"kid_unedited_n{n}"] == pytest.approx(kid(x, y), rel=1e-4)


def test_a_kid_of_subsets_estimates_that_of_all(inception_file):
    edited, original = samples(0, n=60), samples(1, n=60, dark=0.6)
    whole = values(Inception(weights=inception_file), edited, original)["kid_unedited_n60"]
    some = values(Inception(weights=inception_file, size=20), edited, original)["kid_unedited_n60"]
    again = values(Inception(weights=inception_file, size=20), edited, original)["kid_unedited_n60"]
    assert some == again and some != whole and some == pytest.approx(whole, rel=0.1)


def test_pictures_are_resized_without_rounding_and_with_a_filter_that_widens():
    """Against torch's own bicubic filter with antialiasing, which is another implementation of the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, 400, 3), dtype=np.uint8)
    found = clean_resized(pixels)
    image = torch.from_numpy(pixels).movedim(-1, 0)[None].float()
    wanted = functional.interpolate(image, (299, 299), mode="bicubic", antialias=True)[0].clip(0, 255)
    assert torch.allclose(found, wanted, atol=0.01)
    assert not torch.equal(found, found.round())


def test_a_folder_of_real_pictures_is_embedded_once_and_named(inception_file, tmp_path, monkeypatch):
    real = pictures(tmp_path / "COCO 40")
    monkeypatch.chdir(tmp_path)
    Path("artifacts").mkdir()
    sizes, embed = [], Inception.embed
    monkeypatch.setattr(Inception, "embed", lambda self, images: sizes.append(len(images)) or embed(self, images))
    metric, edited = Inception(weights=inception_file, real=str(real)), samples()
    found = []
    for _ in range(2):
        folder_summary.cache_clear()
        found.append(values(metric, edited))
    assert found[0] == found[1] and set(found[0]) == {"fid_coco_40_n30", "kid_coco_40_n30"}
    assert sum(sizes) == 40 + 2 * N and max(sizes) <= compared.BATCH
    stored = [np.asarray(Image.open(path)) for path in sorted(real.iterdir())]
    x, y = features_of(inception_file, arrays(edited)), features_of(inception_file, stored)
    assert found[0]["fid_coco_40_n30"] == pytest.approx(fid(x, y), rel=1e-4)


def test_the_number_of_pictures_and_the_reference_stand_in_the_columns(inception_file):
    metric = Inception(weights=inception_file, real="data/coco", name="COCO30k", n=30)
    assert metric.columns()[0] == Column("retain", "fid_coco30k_n30", "FID (clean) to COCO30k, N = 30", "low")
    assert metric.columns()[2].metric == "fid_unedited_n30" and metric.columns()[2].unedited
    assert Inception(weights=inception_file).columns() is None
    with pytest.raises(ValueError, match="name must not be 'unedited'"):
        Inception(real="data/coco", name="Unedited")
    content = measure(Inception(weights=inception_file), "fid", {"retain": samples(n=6)}, None)
    assert content["caveat"].startswith("fid: 6 samples of 24 features: the covariance lacks rank")


def test_a_folder_of_one_real_picture_is_refused(inception_file, tmp_path):
    folder_summary.cache_clear()
    with pytest.raises(ValueError, match="a distance needs two pictures at least"):
        folder_summary(Inception(weights=str(inception_file), real=str(pictures(tmp_path / "real", n=1))))


def test_cmmd_is_the_papers_formula(clip_folder):
    edited, original = samples(0), samples(1, dark=0.5)
    model = load_clip(clip_folder)[0]

    def embedded(given):
        size = model.config.vision_config.image_size
        pixels = functional.interpolate(given.images.float() / 255, (size, size), mode="bicubic").numpy()
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        pixels = (pixels - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
        with torch.no_grad():
            vectors = model.get_image_features(pixel_values=torch.from_numpy(pixels).float())
        vectors = getattr(vectors, "pooler_output", vectors).double().numpy()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def kernel(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 200).mean()

    x, y = embedded(edited), embedded(original)
    wanted = 1000 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))
    assert values(CMMD(model=clip_folder), edited, original) == {"cmmd_unedited_n30": pytest.approx(wanted, rel=1e-3)}
    assert values(CMMD(model=clip_folder), edited, edited)["cmmd_unedited_n30"] == pytest.approx(0, abs=1e-9)


def test_cmmd_s_kernel_is_summed_in_blocks(clip_folder, tmp_path, monkeypatch):
    metric = CMMD(model=clip_folder, real=str(pictures(tmp_path / "real")))
    folder_summary.cache_clear()
    whole = values(metric, samples())
    monkeypatch.setattr("stages.metrics.cmmd.BLOCK", 7)
    folder_summary.cache_clear()
    assert values(metric, samples()) == pytest.approx(whole)


def test_a_network_that_fails_is_an_error_and_no_distance(inception_file, tmp_path):
    network = torch.jit.load(inception_file)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    network.save(str(tmp_path / "broken.pt"))
    with pytest.raises(FloatingPointError, match=r"fid: retain: 0\.png: features are not finite"):
        measure(Inception(weights=str(tmp_path / "broken.pt")), "fid", {"retain": samples()}, None)
    metric = Inception(weights=str(tmp_path / "broken.pt"), real=str(pictures(tmp_path / "real")))
    with pytest.raises(FloatingPointError, match="real: the features of its pictures are not finite"):
        folder_summary(metric)
    (tmp_path / "words.pt").write_text("words")
    with pytest.raises(ValueError, match="words.pt: no TorchScript Inception"):
        load_inception(str(tmp_path / "words.pt"))
    with pytest.raises(FileNotFoundError, match="inception-2015-12-05.pt"):
        load_inception(str(tmp_path / "gone.pt"))


def test_the_pictures_of_a_folder_that_is_empty_are_named(inception_file, tmp_path):
    with pytest.raises(FileNotFoundError, match="empty"):
        values(Inception(weights=inception_file, real=str(tmp_path / "empty")), samples())


@pytest.mark.parametrize("rows", [400, 90, 30])
def test_the_trace_of_the_root_is_scipys(rows):
    """Of covariances of 90 numbers: full rank, just not, and far from it."""
    generator = torch.Generator().manual_seed(rows)
    x, y = (torch.randn(rows, 90, generator=generator, dtype=torch.float64) * scale for scale in (1, 3))
    first, second = (torch.cov((v * torch.linspace(0.1, 2, 90, dtype=torch.float64)).T) for v in (x, y))
    wanted = np.trace(sqrtm((first @ second).numpy()).real)
    exact = rows > 90
    assert root_trace(first, second) == pytest.approx(wanted, rel=1e-6 if exact else 1e-5)
    assert root_trace(first, first) == pytest.approx(float(first.trace()), rel=1e-6)
