"""The tokenizer of the Infinity of scenes: pictures (3, 64, 64) to 32 bits per token on grids of side 1, 2, 4 and 8."""

from dataclasses import replace

from Infinity import Tokenizer, TokenizerConfig
from stages.training.progress import History
from stages.training.settings import Training
from stages.worlds.scenes.world import Scenes
from stages.worlds.tokenizer import fit

CONFIG = TokenizerConfig(32, base=16, multipliers=(1, 2, 4, 4), stride=8, encoder_blocks=1, decoder_blocks=1, groups=8)


def train_tokenizer(
    world: Scenes, *, seed: int, steps: int = 36000, batch: int = 4, lr: float = 2e-3, plain: float = 0.2
) -> tuple[Tokenizer, History]:
    """Returns a tokenizer in evaluation mode and its losses; the first share `plain` of the steps does not quantise.

    It is shown every figure: bits must be able to say those, too, that no backbone is shown.
    """
    model, warmup = Tokenizer(CONFIG, seed=seed), min(200, steps // 10)
    training = Training(steps=steps, lr=lr, schedule="cosine", warmup=warmup, clip=1.0, betas=(0.9, 0.99))
    return model, fit(model, replace(world, withheld=()), training, seed=seed, batch=batch, plain=plain)
