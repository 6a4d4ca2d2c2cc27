"""FID and KID as clean-fid computes them (Parmar 2022, arXiv 2104.11222): its resizing, its features.

Pictures are resized by Pillow channel by channel in floats, bicubically and without rounding; features are the last
pool of the Inception network of the first FID (Heusel 2017, arXiv 1706.08500) as NVIDIA converted it to TorchScript.
Real pictures are opened as everywhere here: turned as their EXIF says and in sRGB, which clean-fid leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.metrics.base import Statistics
from stages.metrics.compared import Compared
from stages.metrics.frechet import frechet_distance, lacks_rank, moments
from stages.metrics.kid import kid
from stages.params.project import located
from stages.params.types import Count, File
from stages.seeds import Purpose, generator

SIDE = 299  # of the pictures that Inception reads


@dataclass(frozen=True)
class Inception(Compared):
    """fid_REFERENCE_nN and kid_REFERENCE_nN, of clean-fid's mode "clean".

    KID is the mean over `subsets` of `size` pictures each, drawn without replacement; it is unbiased, and FID is not.
    """

    NEEDED: ClassVar[Mapping[str, str]] = {"weights": "inception-2015-12-05.pt, the file that clean-fid fetches"}

    weights: File = ""  # TorchScript file of the Inception network
    subsets: Count = 100  # of a KID
    size: Count = 1000  # pictures of a subset, at most
    seed: int = 0  # of the subsets

    @property
    def network(self) -> list[Any]:
        about = located(self.weights).stat()
        return [self.weights, about.st_size, about.st_mtime_ns]

    def embed(self, images: Tensor) -> Tensor:
        network = load_inception(self.weights)
        pixels = torch.stack([clean_resized(one) for one in images.movedim(1, -1).numpy()])
        place = next(network.parameters(), torch.zeros(())).device
        with torch.no_grad():
            features: Tensor = network((pixels.to(place) - 128) / 128)
        return features.flatten(1).float().cpu()

    def summary(self, features: Tensor) -> Statistics:
        if len(features) < 2:
            return {"features": features}
        mean, covariance = moments(features)
        return {"features": features, "mean": mean, "covariance": covariance}

    def between(self, edited: Statistics, other: Statistics) -> dict[str, float]:
        means = (edited["mean"], edited["covariance"], other["mean"], other["covariance"])
        return {"fid": max(frechet_distance(*means), 0.0), "kid": self._kid(edited["features"], other["features"])}

    def heads(self) -> Mapping[str, str]:
        return {"fid": "FID (clean)", "kid": "KID (clean)"}

    def caveat(self, features: Tensor) -> str | None:
        return lacks_rank("fid", features)

    def _kid(self, x: Tensor, y: Tensor) -> float:
        m = min(len(x), len(y), self.size)
        count = 1 if m == len(x) == len(y) else self.subsets  # there is but one subset of all
        source = generator(Purpose.BOOTSTRAP, self.seed)
        rows = [[torch.randperm(len(of), generator=source)[:m] for _ in range(count)] for of in (x, y)]
        return float(kid(x, y, *map(torch.stack, rows)).mean())


@cache
def load_inception(path: str) -> Any:
    """The layers of a TorchScript Inception, (B, 3, 299, 299) in [-1, 1] to (B, 2048), on the GPU if there is one.

    FileNotFoundError or ValueError names a file that is missing, or no such network.
    """
    path = str(located(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: inception-2015-12-05.pt, the file that clean-fid fetches")
    try:
        network = torch.jit.load(path, map_location="cpu").eval()
        layers = network.layers
    except (RuntimeError, AttributeError) as error:
        said = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: no TorchScript Inception with `layers` ({said})") from None
    return layers.to("cuda" if torch.cuda.is_available() else "cpu")


def clean_resized(pixels: np.ndarray) -> Tensor:
    """Bytes (H, W, 3) as floats in [0, 255], (3, 299, 299): each channel by Pillow's bicubic filter, not rounded."""
    channels = [Image.fromarray(np.ascontiguousarray(pixels[:, :, i], dtype=np.float32)) for i in range(3)]
    resized = [np.asarray(one.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in channels]
    return torch.from_numpy(np.stack(resized).clip(0, 255))
