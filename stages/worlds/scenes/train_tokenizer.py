"""The tokenizer of the Infinity of scenes: pictures (3, 64, 64) to 32 bits per token on grids of side 1, 2, 4 and 8."""

from dataclasses import replace

import torch
from torch import Tensor

from Infinity import Schedule, Tokenizer, TokenizerConfig, tokenizer_loss
from stages.training.minimize import minimize
from stages.training.progress import History
from stages.training.settings import Training
from stages.worlds.scenes.world import Scenes

SCALES = (1, 2, 4, 8)
CONFIG = TokenizerConfig(32, base=16, multipliers=(1, 2, 4, 4), stride=8, encoder_blocks=1, decoder_blocks=1, groups=8)


def train_tokenizer(
    world: Scenes, *, seed: int, steps: int = 36000, batch: int = 4, lr: float = 2e-3, plain: float = 0.2
) -> tuple[Tokenizer, History]:
    """Returns a tokenizer in evaluation mode and its losses; the first share `plain` of the steps does not quantise.

    It is shown every figure: bits must be able to say those, too, that no backbone is shown.
    """
    world = replace(world, withheld=())
    model, schedule = Tokenizer(CONFIG, seed=seed), Schedule.of(*SCALES)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = (2 * world.draw(batch, generator).images - 1).to(memory_format=torch.channels_last)
        if step < plain * steps:
            return (model.decoder(model.features(images)) - images).square().mean()
        decoded, quantized = model(images, schedule)
        return tokenizer_loss(decoded, images, quantized, absolute=0.1)

    warmup = min(200, steps // 10)
    training = Training(steps=steps, lr=lr, schedule="cosine", warmup=warmup, clip=1.0, betas=(0.9, 0.99))
    history = minimize(loss, model.parameters(), training, seed=seed, label="tokenizer")
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
    return model.eval().requires_grad_(False), history
