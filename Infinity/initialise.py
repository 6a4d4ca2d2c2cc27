"""Initial weights as published (arXiv 2412.04431, training set-up), every draw from one generator."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .config import InfinityConfig


@torch.no_grad()
def initialise(parameters: Mapping[str, Tensor], config: InfinityConfig, seed: int) -> None:
    """Draw the transformer's weights in place, given as in `named_parameters`; on the meta device nothing is done."""
    device = parameters["pos_start"].device
    if device.type == "meta":
        return
    generator = torch.Generator(device).manual_seed(seed)
    std = math.sqrt(1 / (3 * config.width))
    for name, parameter in parameters.items():
        _, _, leaf = name.rpartition(".")
        if leaf.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            nn.init.trunc_normal_(parameter, std=std, generator=generator)
    null = nn.init.trunc_normal_(parameters["cfg_uncond"], std=1.2, generator=generator)
    null.div_(math.sqrt(config.text_channels))
    parameters["head.weight"].mul_(0.02)
    parameters["head_nm.ada_lin.1.weight"].mul_(1e-3)
    for block in range(config.depth):
        _initialise_block(parameters, f"blocks.{block}.", config, generator)


def _initialise_block(
    parameters: Mapping[str, Tensor], block: str, config: InfinityConfig, generator: torch.Generator
) -> None:
    for layer in ("sa.proj", "ca.proj", "ffn.fc2"):
        parameters[f"{block}{layer}.weight"].div_(math.sqrt(2 * config.depth))
    modulation = parameters[f"{block}ada_gss"].normal_(generator=generator).div_(math.sqrt(config.width))
    modulation[:, :, :2].mul_(5e-6)  # the two factors of the branches
    modulation[:, :, 2:].mul_(1e-3)  # scales and shifts of their norms
    parameters[f"{block}sa.scale_mul_1H11"].fill_(math.log(4))
