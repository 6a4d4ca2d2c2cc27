"""Initial weights as published (arXiv 2412.04431, training set-up), every draw from one generator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from .transformer import Infinity


@torch.no_grad()
def initialise(model: Infinity, seed: int) -> None:
    """Draw the weights of a model that is not on the meta device."""
    if model.pos_start.is_meta:
        return
    generator = torch.Generator(model.pos_start.device).manual_seed(seed)
    width, depth = model.config.width, model.config.depth
    std = math.sqrt(1 / (3 * width))

    def draw(tensor: torch.Tensor, spread: float) -> None:
        nn.init.trunc_normal_(tensor, std=spread, generator=generator)

    for name, parameter in model.named_parameters():
        _, _, leaf = name.rpartition(".")
        if leaf.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            draw(parameter, std)
    draw(model.cfg_uncond, 1.2)
    model.cfg_uncond /= math.sqrt(model.config.text_channels)
    model.head.weight *= 0.02
    model.head_nm.ada_lin[1].weight *= 1e-3
    for block in model.blocks:
        for layer in (block.sa.proj, block.ca.proj, block.ffn.fc2):
            layer.weight /= math.sqrt(2 * depth)
        block.ada_gss.normal_(generator=generator).div_(math.sqrt(width))
        block.ada_gss[:, :, :2] *= 5e-6
        block.ada_gss[:, :, 2:] *= 1e-3
        block.sa.scale_mul_1H11.fill_(math.log(4))
