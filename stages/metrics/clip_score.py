"""The CLIP score: the cosine between a picture and its prompt (Hessel 2021, arXiv 2104.08718)."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase

from stages.backbones.loading.checkpoints import load_alone
from stages.metrics.base import Metric, Samples, Statistics, Value, floats
from stages.metrics.intervals import DRAWS, bootstrap
from stages.metrics.rates import GROUP, change, number_prompts
from stages.params.types import Count, Rate

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training pictures


@dataclass(frozen=True)
class CLIPScore(Metric):
    """`scale` times the cosine, mean over samples; a clip's is the mean over its frames. `model` is a folder or hub id.

    Papers differ in model and scale (MACE 100, EAR 1), so a number without both says little.
    """

    model: str = "openai/clip-vit-base-patch32"
    scale: Rate = 100.0
    draws: Count = DRAWS
    seed: int = 0

    def features(self, samples: Samples) -> Tensor:
        """Returns the score of each sample, (N, 1)."""
        model, tokenizer = load_clip(self.model)
        texts = embed_texts(model, tokenizer, samples.prompts)
        cosines = torch.einsum("nfd,nd->nf", embed_frames(model, samples.images), texts)
        return self.scale * cosines.mean(1, keepdim=True)

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        return {"clip_score": features[:, 0], GROUP: number_prompts(samples.prompts)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        own, settings = edited["clip_score"], {"seed": self.seed, "draws": self.draws}
        interval = bootstrap(own, groups=edited[GROUP], **settings)
        values = {"clip_score": Value(float(own.double().mean()), *interval, len(own))}
        if original is not None:
            values["clip_score_change"] = change(own, original["clip_score"], edited[GROUP], **settings)
        return values

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        return {"clip_score": edited["clip_score"]}


@cache
def load_clip(path: str) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
    """Returns a CLIP model in evaluation mode, on the GPU if there is one, and its tokenizer, loaded once.

    Reads no pickles. Raises FileNotFoundError or ValueError in one line that names what is missing and how to get it.
    """
    model = load_alone(CLIPModel, path, use_safetensors=True).eval().requires_grad_(False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), load_alone(AutoTokenizer, path)


def prepare(images: Tensor, size: int) -> Tensor:
    """Returns pictures as CLIP takes them: floats, the shorter side to `size`, the middle, standardised."""
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
    """Returns unit vectors of pictures, (N, D)."""
    pixels = prepare(images, model.config.vision_config.image_size).to(model.device)
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return functional.normalize(model.visual_projection(pooled), dim=-1).cpu()


def embed_frames(model: CLIPModel, images: Tensor) -> Tensor:
    """Returns unit vectors (N, F, D) of the frames of clips (N, F, 3, H, W); a picture (N, 3, H, W) is one frame."""
    pictures = images.reshape(-1, *images.shape[-3:])
    return torch.cat([embed_images(model, part) for part in pictures.split(32)]).unflatten(0, (len(images), -1))


@torch.no_grad()
def embed_texts(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> Tensor:
    """Returns unit vectors of prompts, (N, D)."""
    length = model.config.text_config.max_position_embeddings
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").to(
        model.device
    )
    pooled = model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=-1).cpu()
