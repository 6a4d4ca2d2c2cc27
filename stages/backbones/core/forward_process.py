"""The forward process behind any diffusers scheduler: how noisy a time is, and the right prediction there."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from stages.objectives import clean_from_noise

Prediction = Literal["epsilon", "v_prediction", "flow_prediction"]


class ForwardProcess:
    """The process of one scheduler, on latents (B, ...) at times (B,)."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Clean latents with noise of the same shape, at times (B,)."""
        return noised(self.scheduler, clean, noise, time)

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The right prediction (B, ...) for a noised latent."""
        return target(self.scheduler, clean, noise, time)

    def clean(self, latent: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """The clean latent (B, ...) that a prediction implies."""
        return clean(self.scheduler, latent, prediction, time)

    def random_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Training times (n,)."""
        return random_times(self.scheduler, n, generator)


def prediction(scheduler: Any) -> Prediction:
    """The kind of prediction; flow is noise - clean. ValueError for a kind that has no equations here."""
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    if kind not in get_args(Prediction):
        said = f"prediction_type must be one of {', '.join(get_args(Prediction))}, got {kind!r}"
        raise ValueError(f"{type(scheduler).__name__}: {said}")
    return kind


def levels(scheduler: Any, time: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise levels at times (B,), each (B, 1, ...) to multiply latents `like` (B, ...)."""
    if prediction(scheduler) == "flow_prediction":
        spread = time / scheduler.config.num_train_timesteps
        signal = 1 - spread
    else:
        square = scheduler.alphas_cumprod.to(time.device)[time.long()]
        signal, spread = square.sqrt(), (1 - square).sqrt()
    shape = (-1, *(1,) * (like.ndim - 1))
    return signal.to(like.device, like.dtype).view(shape), spread.to(like.device, like.dtype).view(shape)


def noised(scheduler: Any, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """signal clean + spread noise, for latents and noise (B, ...) at times (B,)."""
    signal, spread = levels(scheduler, time, clean)
    return signal * clean + spread * noise


def target(scheduler: Any, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The right prediction (B, ...) for a noised latent: eps, v (arXiv 2202.00512, appendix D), or noise - clean."""
    kind = prediction(scheduler)
    if kind == "epsilon":
        return noise
    if kind == "flow_prediction":
        return noise - clean
    signal, spread = levels(scheduler, time, clean)
    return signal * noise - spread * clean


def clean(scheduler: Any, latent: Tensor, predicted: Tensor, time: Tensor) -> Tensor:
    """The clean latent (B, ...) that a prediction for `latent` (B, ...) implies at times (B,)."""
    signal, spread = levels(scheduler, time, latent)
    kind = prediction(scheduler)
    if kind == "epsilon":
        return clean_from_noise(latent, predicted, signal.square())
    return latent - spread * predicted if kind == "flow_prediction" else signal * latent - spread * predicted


def random_times(scheduler: Any, n: int, generator: torch.Generator) -> Tensor:
    """Training times (n,): uniform, or for flows logit-normal (arXiv 2403.03206, eq. 19) with the scheduler's shift."""
    config = scheduler.config
    if prediction(scheduler) != "flow_prediction":
        return torch.randint(config.num_train_timesteps, (n,), generator=generator)
    sigma = torch.randn(n, generator=generator).sigmoid()
    shift = config.get("shift") or config.get("flow_shift") or 1.0
    return config.num_train_timesteps * shift * sigma / (1 + (shift - 1) * sigma)
