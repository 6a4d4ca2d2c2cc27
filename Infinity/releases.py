"""Load published checkpoints, and say which files belong together (arXiv 2412.04431; weights under the MIT licence)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from .config import RELEASED_BITS, InfinityConfig, TokenizerConfig, known_fields
from .names import from_published_tokenizer, from_published_transformer
from .reading import CheckpointError, read_state
from .recognise import TOKENIZER, TRANSFORMER, kind_of
from .schedules import BUDGETS
from .tokenizer import Tokenizer
from .transformer import Infinity


@dataclass(frozen=True)
class Published:
    """A published transformer."""

    model_type: str
    tokenizers: tuple[str, ...]  # names of the tokenizer file that it was trained with
    vae_type: int
    pn: str


_D32 = ("infinity_vae_d32reg.pth", "infinity_vae_d32_reg.pth")
_D14 = ("infinity_vae_d56_f8_14_patchify.pth",)

# By file name (for a folder of shards, the folder's).
PUBLISHED: dict[str, Published] = {
    "infinity_125M_256x256.pth": Published("infinity_layer12", ("infinity_vae_d16.pth",), 16, "0.06M"),
    "infinity_2b_reg.pth": Published("infinity_2b", _D32, 32, "1M"),
    "infinity_8b_weights": Published("infinity_8b", _D14, 14, "1M"),
    "infinity_8b_512x512_weights": Published("infinity_8b", _D14, 14, "0.25M"),
}


@dataclass(frozen=True)
class Release:
    """The files of one working model. A `~` at the beginning of a path is the home folder."""

    model_path: str  # transformer: a file or a folder of shards, published or from the authors' training
    model_type: str  # its published size, such as infinity_2b
    vae_path: str  # tokenizer
    vae_type: int  # bits per cell of the tokenizer
    pn: str  # pixel budget: 0.06M, 0.25M, 0.60M or 1M
    text_encoder_ckpt: str = "google/flan-t5-xl"  # a folder or a repository of the hub
    text_channels: int = 2048  # of the text encoder

    def __post_init__(self) -> None:
        for name in ("model_path", "vae_path", "text_encoder_ckpt"):
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Release:
        """A release of a parsed YAML; ValueError names a missing or unknown key."""
        kept = known_fields(cls, values)
        missing = [field.name for field in fields(cls)[:5] if field.name not in kept]
        if missing:
            raise ValueError(f"a release needs {', '.join(missing)}")
        return cls(**kept)

    def check(self) -> None:
        """CheckpointError if the fields contradict each other; no file is read."""
        if self.pn not in BUDGETS:
            raise CheckpointError(f"pn must be one of {', '.join(BUDGETS)}, got {self.pn!r}")
        if self.vae_type not in RELEASED_BITS:
            raise CheckpointError(f"vae_type must be one of {RELEASED_BITS}, got {self.vae_type}")
        name = Path(self.model_path).name
        known = PUBLISHED.get(name)
        if known is None:
            return
        vae = Path(self.vae_path).name
        if vae.startswith("infinity_vae_") and vae not in known.tokenizers:
            raise CheckpointError(f"{name} was trained with {known.tokenizers[0]}; vae_path names {vae}")
        for field in ("model_type", "vae_type", "pn"):
            wanted, got = getattr(known, field), getattr(self, field)
            if got != wanted and not (field == "model_type" and str(got).startswith(wanted)):
                raise CheckpointError(f"{name} needs {field} {wanted}, got {got}")


def load_release(release: Release, *, device: str = "cpu", ema: bool = False) -> tuple[Infinity, Tokenizer]:
    """The transformer and the tokenizer of `release`, in evaluation mode, float32.

    `ema` takes the averaged weights of a training checkpoint. CheckpointError if the fields contradict each other, a
    file cannot be read or is another thing, or the two do not belong together.
    """
    release.check()
    fitting = {name: one for name, one in PUBLISHED.items() if one.model_type == release.model_type}
    with _naming({one.tokenizers[0] for one in PUBLISHED.values() if one.vae_type == release.vae_type}):
        tokenizer = load_tokenizer(release.vae_path, vae_type=release.vae_type, device=device)
    with _naming({name for name, one in fitting.items() if one.pn == release.pn} or fitting):
        model = load_transformer(release.model_path, model_type=release.model_type, device=device, ema=ema)
    check_pair(model.config, tokenizer.config)
    if model.config.text_channels != release.text_channels:
        raise CheckpointError(
            f"{release.model_path} reads text of {model.config.text_channels} channels, "
            f"but text_channels is {release.text_channels} ({release.text_encoder_ckpt})"
        )
    return model, tokenizer


@contextmanager
def _naming(files: Collection[str]) -> Iterator[None]:
    """Add to a CheckpointError the published files that fit."""
    try:
        yield
    except CheckpointError as error:
        hint = f"; the published file is {' or '.join(sorted(files))}" if files else ""
        raise CheckpointError(f"{error}{hint}") from error


def load_transformer(
    path: str | Path, *, model_type: str | None = None, device: str = "cpu", ema: bool = False
) -> Infinity:
    """The transformer of a published or training checkpoint, float32; its sizes follow from its tensors.

    `model_type` is checked if given, and `ema` takes the averaged weights of a training checkpoint. CheckpointError
    says what the file is if it is anything else.
    """
    state, config = from_published_transformer(_read(path, TRANSFORMER, "word_embed.weight", ema=ema))
    if model_type is not None:
        named = InfinityConfig.named(model_type, config.bits, text_channels=config.text_channels)
        sizes = ("depth", "width", "heads", "hidden")
        ours, theirs = ({size: getattr(one, size) for size in sizes} for one in (config, named))
        if ours != theirs:
            raise CheckpointError(f"{path} is not an {model_type}: it has {_list(ours)} instead of {_list(theirs)}")
        config = replace(config, drop_path=named.drop_path)
    return Infinity.from_state(config, state, source=path, device=device)


def load_tokenizer(path: str | Path, *, vae_type: int | None = None, device: str = "cpu") -> Tokenizer:
    """The tokenizer of a published or training checkpoint, float32; its sizes follow from its tensors.

    `vae_type`, its bits per cell, is checked if given. CheckpointError says what the file is if it is anything else.
    """
    state, config = from_published_tokenizer(_read(path, TOKENIZER, "encoder.conv_in."))
    if vae_type is not None and config.bits != vae_type:
        raise CheckpointError(f"{path} has {config.bits} bits per cell, but vae_type is {vae_type}")
    return Tokenizer.from_state(config, state, source=path, device=device)


def _read(path: str | Path, wanted: str, anchor: str, *, ema: bool = False) -> dict[str, Tensor]:
    state = read_state(path, ema=ema, anchor=anchor)
    kind = kind_of(state)
    if kind not in (None, wanted):
        raise CheckpointError(f"{path} is {kind}, not {wanted}")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def check_pair(model: InfinityConfig, tokenizer: TokenizerConfig) -> None:
    """CheckpointError if the transformer reads another number of bits per token than the tokenizer writes."""
    if model.bits == tokenizer.token_bits:
        return
    fitting = sorted({one.tokenizers[0] for one in PUBLISHED.values() if _token_bits(one.vae_type) == model.bits})
    hint = f"; {' or '.join(fitting)} belongs to it" if fitting else ""
    raise CheckpointError(
        f"the model reads {model.bits} bits per token, but the tokenizer writes {tokenizer.token_bits}{hint}"
    )


def _token_bits(vae_type: int) -> int:
    return TokenizerConfig.released(vae_type).token_bits


def _list(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sizes.items())
