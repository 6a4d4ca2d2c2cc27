"""A tiny transformer, tokenizer and text, every weight random so that nothing is hidden by an initial zero."""

from __future__ import annotations

import pytest
import torch

from Infinity import Infinity, InfinityConfig, Schedule, Text, Tokenizer, TokenizerConfig

BITS = 6


@pytest.fixture(scope="session")
def grids() -> Schedule:
    return Schedule.of(1, 2, (3, 4), 6)


@pytest.fixture(scope="session")
def config() -> InfinityConfig:
    return InfinityConfig(
        depth=4, width=32, heads=4, bits=BITS, hidden=64, chunks=2, text_channels=24, text_length=12, pool_heads=2
    )


@pytest.fixture
def model(config: InfinityConfig) -> Infinity:
    model = Infinity(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.05 if "ada" in name or "norm" in name else 0.2
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def text() -> Text:
    generator = torch.Generator().manual_seed(3)
    return Text.of([torch.randn(length, 24, generator=generator) for length in (5, 2, 7)])


@pytest.fixture(scope="session")
def inputs(grids: Schedule) -> torch.Tensor:
    return torch.randn(3, grids.tokens - 1, BITS, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="session")
def labels(grids: Schedule) -> torch.Tensor:
    return torch.randint(2, (3, grids.tokens, BITS), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def tokenizer() -> Tokenizer:
    config = TokenizerConfig(BITS, base=8, multipliers=(1, 2), stride=2, encoder_blocks=1, decoder_blocks=1, groups=4)
    return Tokenizer(config, seed=6).eval()
