"""What the judges of all worlds share: a body of convolutions, standardised features, and their files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Reader(nn.Module):
    """Reads features (N, depth) off pictures (N, 3, H, W) in [0, 1]; a judge puts its heads on them."""

    mean: Tensor  # (depth,) of the features of real renders
    scale: Tensor  # (depth,) their standard deviation

    def __init__(self, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        self.depth = depth
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * widths[-1], depth))
        self.register_buffer("mean", torch.zeros(depth))
        self.register_buffer("scale", torch.ones(depth))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Returns the input of the heads, (N, depth), standardised over real renders, for pictures (N, 3, H, W)."""
        return torch.cat([(self._read(part) - self.mean) / self.scale for part in images.split(256)])

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Sets mean and scale so that the features of `images` (N, 3, H, W) have mean 0 and variance 1."""
        features = torch.cat([self._read(part) for part in images.split(256)])
        spread = features.std(0)
        self.mean.copy_(features.mean(0))
        self.scale.copy_(spread.clamp(min=0.05 * float(spread.mean())))

    def _read(self, images: Tensor) -> Tensor:
        return nn.functional.silu(self.body(2 * images - 1))

    def _write(self, folder: str | Path, spec: Mapping[str, Any]) -> None:
        """Writes judge.safetensors, and judge.json with `spec`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "judge.json").write_text(json.dumps(spec, indent=2) + "\n")
        save_file(self.state_dict(), folder / "judge.safetensors")

    def _filled(self, folder: str | Path) -> None:
        """Takes the weights of a folder, for evaluation; ValueError names a file that is damaged or does not fit."""
        path = Path(folder) / "judge.safetensors"
        try:
            self.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{path}: not the weights of this judge: {str(error).splitlines()[0]}") from None
        self.eval().requires_grad_(False)


def spec_of(folder: str | Path, command: str) -> dict[str, Any]:
    """The content of judge.json; FileNotFoundError names the command that makes it."""
    path = Path(folder) / "judge.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no judge; make it with: {command}")
    return dict(json.loads(path.read_text()))
