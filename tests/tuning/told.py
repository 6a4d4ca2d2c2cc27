"""A judge that is told what to see by the pixels of a picture, for backbones that draw noise."""

from dataclasses import dataclass

import torch

from stages.metrics.base import Metric


@dataclass(frozen=True)
class Told(Metric):
    """A picture of a prompt about red shows it three times of four, by its pixels; so often is any as asked."""

    @property
    def seen(self):
        return "target"

    def features(self, samples):
        return samples.images.flatten(1).double().sum(1)[:, None]

    def statistics(self, features, samples):
        said = (features[:, 0] % 4 > 0).double()
        red = torch.tensor([float(row.get("colour") == "red") for row in samples.rows])
        return {"target": said * red, "joint": said}

    def score(self, edited, original):
        return {}

    def outcomes(self, edited, original):
        return dict(edited)
