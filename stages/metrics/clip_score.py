"""The CLIP score: the cosine between a picture and its prompt (Hessel 2021, arXiv 2104.08718)."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase

from stages.backbones.loading.checkpoints import load_alone
from stages.metrics.base import GROUP, Column, Metric, Statistics, Value, change
from stages.metrics.intervals import DRAWS, bootstrap, number_prompts
from stages.metrics.samples import Samples, finite, floats, frames, of_each_size
from stages.params.types import Count, Rate

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training pictures
BATCH = 32  # pictures that are embedded at once


@dataclass(frozen=True)
class CLIPScore(Metric):
    """`scale` times the cosine, mean over samples; a clip's is the mean over its frames.

    Papers differ in model and scale (MACE 100, EAR 1), so a number without both says little.
    """

    SIZES = True

    model: str = "openai/clip-vit-base-patch32"  # folder or hub id of a CLIP
    scale: Rate = 100.0  # of a cosine of 1
    draws: Count = DRAWS  # resamples of the bootstrap
    seed: int = 0  # of the bootstrap

    def features(self, samples: Samples) -> Tensor:
        """The score of each sample, (N, 1); FloatingPointError if one is not finite."""
        model, tokenizer = load_clip(self.model)
        texts = embed_texts(model, tokenizer, samples.prompts)
        cosines = torch.einsum("nfd,nd->nf", embed_samples(model, samples), texts)
        return finite(self.scale * cosines.mean(1, keepdim=True), samples, "CLIP's scores")

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        return {"clip_score": features[:, 0], GROUP: number_prompts(samples.prompts)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        scores, settings = edited["clip_score"], {"seed": self.seed, "draws": self.draws}
        interval = bootstrap(scores, groups=edited[GROUP], **settings)
        values = {"clip_score": Value(float(scores.double().mean()), *interval, len(scores))}
        if original is not None:
            values["clip_score_change"] = change(scores, original["clip_score"], edited[GROUP], **settings)
        return values

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        return {"clip_score": edited["clip_score"]}

    def rescored(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return self.score(edited, original)

    def columns(self) -> tuple[Column, ...]:
        return (Column("retain", "clip_score", "CLIP score", "high"),)


@cache
def load_clip(path: str) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
    """A CLIP model in evaluation mode, on the GPU if there is one, and its tokenizer, loaded once.

    Reads no pickles. FileNotFoundError or ValueError is one line that names the missing part and how to get it.
    """
    model = load_alone(CLIPModel, path, use_safetensors=True).eval().requires_grad_(False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), load_alone(AutoTokenizer, path)


def prepare(images: Tensor, size: int) -> Tensor:
    """Pictures (N, 3, H, W) as CLIP takes them, (N, 3, size, size).

    The shorter side is resized to `size`, the middle cropped, the values standardised.
    """
    height, width = images.shape[-2:]
    ratio = size / min(height, width)
    sides = (max(size, round(height * ratio)), max(size, round(width * ratio)))
    images = functional.interpolate(floats(images), sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
    images = images[..., top : top + size, left : left + size]
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


@torch.no_grad()
def embed_images(model: CLIPModel, images: Tensor) -> Tensor:
    """Unit vectors (N, D) of pictures (N, 3, H, W), bytes or in [0, 1]."""
    pixels = prepare(images, model.config.vision_config.image_size).to(model.device)
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return functional.normalize(model.visual_projection(pooled), dim=-1).cpu()


def embed_frames(model: CLIPModel, images: Tensor) -> Tensor:
    """Unit vectors (N, F, D) of the frames of clips (N, F, 3, H, W); a picture (N, 3, H, W) is one frame."""
    embedded = torch.cat([embed_images(model, part) for part in frames(images).split(BATCH)])
    return embedded.unflatten(0, (len(images), -1))


def embed_samples(model: CLIPModel, samples: Samples) -> Tensor:
    """Unit vectors (N, F, D) of the frames of samples, of whatever sizes."""
    return of_each_size(samples, lambda images: embed_frames(model, images))


@torch.no_grad()
def embed_texts(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> Tensor:
    """Unit vectors (N, D) of N prompts, cut at the text encoder's length."""
    length = model.config.text_config.max_position_embeddings
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").to(
        model.device
    )
    pooled = model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=-1).cpu()
