"""The tokenizer of the world's Infinity: pictures (3, 32, 32) to 16 bits per token on grids of side 1, 2, 4 and 8."""

import torch
from torch import Tensor

from Infinity import Schedule, Tokenizer, TokenizerConfig, tokenizer_loss
from stages.training.minimize import minimize
from stages.training.progress import History
from stages.training.settings import Training, from_scratch
from stages.worlds.by_name import World
from stages.worlds.shapes import Shapes

SCALES = (1, 2, 4, 8)
CONFIG = TokenizerConfig(16, base=16, multipliers=(1, 2, 2), stride=4, encoder_blocks=1, decoder_blocks=1, groups=8)


def train_tokenizer(
    world: Shapes, *, seed: int, steps: int = 1600, batch: int = 8, lr: float = 4e-3, plain: float = 0.3
) -> tuple[Tokenizer, History]:
    """Returns a tokenizer in evaluation mode and its losses; the first share `plain` of the steps does not quantise."""
    model = Tokenizer(CONFIG, seed=seed)
    return model, fit(model, world, from_scratch(steps, lr), seed=seed, batch=batch, plain=plain)


def fit(model: Tokenizer, world: World, training: Training, *, seed: int, batch: int, plain: float) -> History:
    """Trains a tokenizer of the scales SCALES on a world's pictures and leaves it in evaluation mode; its losses.

    The first share `plain` of the steps does not quantise.
    """
    schedule = Schedule.of(*SCALES)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = (2 * world.draw(batch, generator).images - 1).to(memory_format=torch.channels_last)
        if step < plain * training.steps:
            return (model.decoder(model.features(images)) - images).square().mean()
        decoded, quantized = model(images, schedule)
        return tokenizer_loss(decoded, images, quantized, absolute=0.1)

    history = minimize(loss, model.parameters(), training, seed=seed, label="tokenizer")
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
    model.eval().requires_grad_(False)
    return history
