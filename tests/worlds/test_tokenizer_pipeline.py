"""The tokenizer inside diffusers' own Stable Diffusion pipeline."""

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from stages.worlds.words import LENGTH, make_tokenizer


def tiny_pipeline() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=16,
    )
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def test_unmodified_pipeline_saves_loads_and_samples_with_the_tokenizer(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path)
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    for pipe in (pipeline, loaded):
        pipe.set_progress_bar_config(disable=True)
    draw = {"num_inference_steps": 1, "output_type": "pt"}
    pictures = [
        pipe("a red circle", generator=torch.Generator().manual_seed(1), **draw).images for pipe in (pipeline, loaded)
    ]
    assert pictures[0].shape == (1, 3, 32, 32)
    assert torch.equal(*pictures)


def test_the_text_model_pools_at_the_end_token():
    pipeline = tiny_pipeline()
    tokenizer, model = pipeline.tokenizer, pipeline.text_encoder
    ids = tokenizer("a red circle", padding="max_length", return_tensors="pt").input_ids
    out = model(ids)
    end = ids[0].tolist().index(tokenizer.eos_token_id)
    assert torch.equal(out.pooler_output[0], out.last_hidden_state[0, end])
