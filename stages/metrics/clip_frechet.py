"""The Frechet distance of CLIP's picture features: to the unedited samples, and to a folder of real pictures.

For models that were trained in no world. Features are CLIP's unit vectors, as in CMMD (arXiv 2401.09603), which finds
them to follow what people see more closely than Inception's; numbers are not those of the usual FID.
"""

from dataclasses import dataclass

from torch import Tensor

from stages.metrics.base import Metric, Samples, Statistics, Value
from stages.metrics.clip_score import embed_frames, load_clip
from stages.metrics.distances import distances
from stages.metrics.frechet import gap, warn_of_lacking_rank
from stages.store.pictures import read_folder


@dataclass(frozen=True)
class CLIPFrechet(Metric):
    """Frechet distances of CLIP's features; `real` is a folder of pictures (see `read_folder`), or empty.

    They grow as samples get fewer, so compare equal n only.
    """

    seed: int = 0
    model: str = "openai/clip-vit-base-patch32"
    real: str = ""

    def features(self, samples: Samples) -> Tensor:
        """Returns unit vectors (N, F, D): a picture is a clip of one frame."""
        return embed_frames(load_clip(self.model)[0], samples.images)

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        warn_of_lacking_rank("clip_frechet", features)
        if not self.real:
            return {"features": features}
        pictures = read_folder(self.real, tuple(samples.images.shape[-2:]))
        return {"features": features, "real": embed_frames(load_clip(self.model)[0], pictures)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return distances("clip_frechet", gap, edited, original, seed=self.seed, least=0.0)
