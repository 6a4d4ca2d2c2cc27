"""A diffusion backbone around given networks and given embeddings, for fixtures that come without a tokenizer."""

import torch

from stages.backbones.core.base import Settings
from stages.backbones.core.diffusion import Diffusion


class StandIn(Diffusion):
    """`prompts` maps what is asked for to its encoded tensors; `call` is the network."""

    def __init__(self, net, scheduler, prompts, shape, decoder=None, **settings):
        super().__init__("stand-in", Settings(path="none", family="none", **settings), net)
        self.scheduler, self.prompts, self.shape, self.decoder = scheduler, prompts, shape, decoder

    def find_sites(self):
        return {}

    def modules(self):
        return {"net": self.net}

    def _encode(self, prompts):
        rows = [self.prompts[prompt] for prompt in prompts]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def denoise(self, latent, time, tensors):
        return self.net(latent, time, tensors)

    def decode(self, latent):
        return self.decoder(latent)

    def embed(self, images):
        return images

    def picture_size(self):
        return tuple(self.shape[-2:])

    def latent_shape(self):
        return self.shape

    def timesteps(self, scheduler, steps):
        scheduler.set_timesteps(steps)
        return scheduler.timesteps
