"""A Stable Diffusion around a fixture's text model and UNet, whose tokenizer knows every id as a word `w<id>`."""

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from stages.backbones.core.base import Settings
from stages.backbones.unet import UNet
from tests.parity.stand_in import small_vae


def tokenizer(config):
    """One word per id: `a` is 0, so that free tokens have a word to hold their place."""
    begin, end, length = config["bos_token_id"], config["eos_token_id"], config["max_position_embeddings"]
    ids = {("a" if i == 0 else f"w{i}"): i for i in range(config["vocab_size"])}
    core = Tokenizer(models.WordLevel(ids, unk_token=f"w{end}"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [(f"w{begin}", begin), (f"w{end}", end)]
    core.post_processor = processors.TemplateProcessing(single=f"w{begin} $A w{end}", special_tokens=marks)
    names = {"bos_token": f"w{begin}", "eos_token": f"w{end}", "pad_token": f"w{end}", "unk_token": f"w{end}"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=length, **names)


def text_model(fixtures):
    """The fixture's text model."""
    model = CLIPTextModel(CLIPTextConfig(**fixtures.manifest["text_encoder_config"])).eval()
    own = {name.removeprefix("text_model."): value for name, value in model.named_parameters()}
    for name, value in fixtures.tensors("text_encoder.safetensors", "w.").items():
        own[name.removeprefix("text_model.")].data.copy_(value)
    return model


def backbone(fixtures, weights, steps=10, guidance=7.5):
    """The fixture's UNet of that file, read through its own text model."""
    manifest = fixtures.manifest
    net = UNet2DConditionModel(**{key: value for key, value in manifest["unet_config"].items() if value is not None})
    net.load_state_dict(fixtures.tensors(weights, "w."))
    scheduler = DDIMScheduler(**{"steps_offset": 1, "clip_sample": False} | manifest["scheduler"])
    parts = {"vae": small_vae(), "text_encoder": text_model(fixtures), "unet": net, "scheduler": scheduler}
    words = tokenizer(manifest["text_encoder_config"])
    pipeline = StableDiffusionPipeline(**parts, tokenizer=words, **UNet.WITHOUT)
    settings = Settings(path="none", family="unet", steps=steps, guidance=guidance, batch=4, pool=2)
    return UNet("tiny", settings, pipeline)


def written(ids, manifest):
    """A prompt's words, (1, L) ids without its begin, end and padding."""
    special = {manifest["begin_id"], manifest["end_id"]}
    return " ".join("a" if i == 0 else f"w{i}" for i in ids[0].tolist() if i not in special)


def near(actual, expected, limit):
    """Equal within an absolute limit."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=limit)
