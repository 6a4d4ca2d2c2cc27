"""The visual tokenizer: a convolutional autoencoder around the binary quantiser (arXiv 2412.04431, sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .config import TokenizerConfig
from .convolution import Downsample, ResidualBlock, Swish, Upsample, empty_conv, group_norm, initialise_convolutions
from .pretrained import Pretrained
from .quantizer import Quantized, quantize, sum_codes
from .schedules import Schedule


class Middle(nn.Module):
    """Two residual blocks at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        return self.block_2(self.block_1(x))


class Level(nn.Module):
    """The residual blocks of one resolution, then its resampling, if any."""

    def __init__(self, inputs: int, outputs: int, blocks: int, groups: int, resample: type[nn.Module] | None) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * blocks]
        self.block = nn.ModuleList(ResidualBlock(widths[i], outputs, groups) for i in range(blocks))
        self.downsample = resample(outputs) if resample is Downsample else None
        self.upsample = resample(outputs) if resample is Upsample else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the next resolution."""
        for block in self.block:
            x = block(x)
        after = self.downsample or self.upsample
        return after(x) if after is not None else x


class Encoder(nn.Module):
    """Picture (B, 3, H, W) to features (B, d, H / stride, W / stride)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.base * multiplier for multiplier in config.multipliers]
        self.conv_in = empty_conv(3, config.base)
        self.down = nn.ModuleList(
            Level(before, width, config.encoder_blocks, config.groups, Downsample if i < config.halvings else None)
            for i, (before, width) in enumerate(zip([config.base, *widths], widths, strict=False))
        )
        self.mid = Middle(widths[-1], config.groups)
        self.act = Swish()
        self.norm_out = group_norm(widths[-1], config.groups)
        self.conv_out = empty_conv(widths[-1], config.bits)

    def forward(self, image: Tensor) -> Tensor:
        """Features (B, d, H / stride, W / stride) of `image` (B, 3, H, W) in [-1, 1]."""
        x = self.conv_in(image)
        for level in self.down:
            x = level(x)
        return self.conv_out(self.act(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Summed codes (B, d, h, w) to a picture (B, 3, H, W)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.base * multiplier for multiplier in config.multipliers]
        self.conv_in = empty_conv(config.bits, widths[-1])
        self.mid = Middle(widths[-1], config.groups)
        self.up = nn.ModuleList(
            Level(after, width, config.decoder_blocks, config.groups, Upsample if 1 <= i <= config.halvings else None)
            for i, (width, after) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True))
        )
        self.act = Swish()
        self.norm_out = group_norm(widths[0], config.groups)
        self.conv_out = empty_conv(widths[0], 3)

    def forward(self, codes: Tensor) -> Tensor:
        """Picture (B, 3, H, W) of `codes` (B, d, h, w), not clamped."""
        x = self.mid(self.conv_in(codes))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(self.act(self.norm_out(x)))


class Tokenizer(Pretrained):
    """Pictures in [-1, 1] to bits per scale and back.

    >>> tokenizer = load_tokenizer("infinity_vae_d32reg.pth")
    >>> quantized = tokenizer.encode(images, schedule("1M"))
    >>> again = tokenizer.decode(quantized.summed)
    """

    config_class = TokenizerConfig
    config: TokenizerConfig

    def __init__(self, config: TokenizerConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        initialise_convolutions(self, seed)

    def speed_up(self) -> Tokenizer:
        """Decode faster, equal up to rounding: channels last, folded upsampling, fused swish. In place."""
        for module in self.modules():
            if isinstance(module, (Upsample, Swish)):
                module.fast = True
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def features(self, image: Tensor) -> Tensor:
        """Encoder features (B, d, h, w) float32, not yet quantised, of `image` (B, 3, H, W) in [-1, 1]."""
        with torch.autocast(image.device.type, enabled=False):
            return self.encoder(image.float())

    def encode(self, image: Tensor, schedule: Schedule) -> Quantized:
        """Quantise `image` (B, 3, H, W) in [-1, 1]; ValueError if it does not fit the schedule's last grid."""
        return quantize(self.features(image), schedule.finer(self.config.patchify))

    def decode(self, codes: Tensor) -> Tensor:
        """Picture (B, 3, H, W) in [-1, 1] of summed codes (B, d, h, w)."""
        if self.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last):
            codes = codes.contiguous(memory_format=torch.channels_last)
        pixels = self.decoder(codes).float()
        return torch.where(pixels.isinf(), torch.nan, pixels).clamp(-1, 1)  # an overflow must not pass for white

    def decode_bits(self, bits: Sequence[Tensor], schedule: Schedule) -> Tensor:
        """Picture (B, 3, H, W) in [-1, 1] of `bits`, one (B, h, w, d) per scale; the first few are a coarse picture."""
        return self.decode(sum_codes(bits, schedule.finer(self.config.patchify)[-1]))

    def forward(self, image: Tensor, schedule: Schedule) -> tuple[Tensor, Quantized]:
        """Reconstruction (B, 3, H, W), not clamped, and the quantised `image`; gradients pass through the bits."""
        quantized = self.encode(image, schedule)
        return self.decoder(quantized.summed), quantized
