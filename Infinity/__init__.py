"""Infinity: bitwise autoregressive image generation (arXiv 2412.04431), an implementation of our own."""

from .config import InfinityConfig, TokenizerConfig
from .correction import draw_flips, self_correct
from .encoder import TextEncoder
from .linear import packed_weights
from .loss import bit_accuracy, bitwise_loss, tokenizer_loss
from .pipeline import Pipeline
from .quantizer import bits_to_tokens, sum_codes, teacher_inputs
from .reading import CheckpointError, read_state
from .releases import Release, load_release, load_tokenizer, load_transformer
from .sampling import sample, sample_scales
from .schedules import Schedule, nearest_template, schedule, schedule_for_size
from .settings import Sampling, ScaleStep, linear_guidance
from .text import Text
from .tokenizer import Tokenizer
from .transformer import Infinity, margins

__all__ = [
    "CheckpointError",
    "Infinity",
    "InfinityConfig",
    "Pipeline",
    "Release",
    "Sampling",
    "ScaleStep",
    "Schedule",
    "Text",
    "TextEncoder",
    "Tokenizer",
    "TokenizerConfig",
    "bit_accuracy",
    "bits_to_tokens",
    "bitwise_loss",
    "draw_flips",
    "linear_guidance",
    "load_release",
    "load_tokenizer",
    "load_transformer",
    "margins",
    "nearest_template",
    "packed_weights",
    "read_state",
    "sample",
    "sample_scales",
    "schedule",
    "schedule_for_size",
    "self_correct",
    "sum_codes",
    "teacher_inputs",
    "tokenizer_loss",
]
