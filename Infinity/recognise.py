"""What a file is that is not the checkpoint asked for: by its first bytes, or by the names of its tensors."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

TRANSFORMER, TOKENIZER = "an Infinity transformer", "an Infinity tokenizer (VAE)"
UNFINISHED = (".part", ".incomplete", ".crdownload", ".download", ".aria2", ".tmp")

_BEGINNINGS = {
    b"version https://git-lfs": "a git-lfs pointer, not the file itself; run `git lfs pull` where it lies",
    b"GGUF": "a GGUF file, whose weights are quantised; only safetensors and torch files are read",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"<!": "a web page, not the file itself; download it again",
    b"<html": "a web page, not the file itself; download it again",
}

# The first rule that fits decides. A name counts if it holds the text; all of a rule's texts must occur.
_TENSORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LoRA, which needs the model that it was trained on; attach it there", ("lora_",)),
    ("a LoRA, which needs the model that it was trained on; attach it there", (".lora.",)),
    ("an optimizer's state, without weights", ("exp_avg",)),
    ("a class-conditional VAR", ("class_emb.weight", "word_embed.weight")),
    (TRANSFORMER, ("word_embed.weight", "pos_start")),
    ("a VAE of diffusers", ("encoder.down_blocks.",)),
    ("a VAE of Stable Diffusion", ("encoder.mid.attn_1.",)),
    (TOKENIZER, ("encoder.conv_in.", "decoder.conv_in.")),
    ("a T5 text encoder, which text_encoder_ckpt names as a folder", ("encoder.block.0.layer.0.",)),
    ("a CLIP text encoder", ("text_model.encoder.",)),
    ("a UNet of Stable Diffusion", ("down_blocks.", "mid_block.")),
    ("a checkpoint of Stable Diffusion in one file", ("model.diffusion_model.",)),
    ("a diffusion transformer (SD3, Flux, CogVideoX)", ("transformer_blocks.",)),
    ("a diffusion transformer (Flux)", ("double_blocks.",)),
)


def other_file(path: Path) -> str | None:
    """What the file at `path` is, by its name and first bytes; None if it may hold tensors."""
    if path.suffix in UNFINISHED:
        return "an unfinished download; let it end, or begin it again"
    with path.open("rb") as file:
        head = file.read(256)
    if not head:
        return "an empty file; download it again"
    for beginning, kind in _BEGINNINGS.items():
        if head.lstrip().lower().startswith(beginning.lower()):
            return kind
    text = head.decode("ascii", errors="replace")
    if text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable() and text.isascii():
        return f"a text file that begins {text.splitlines()[0][:40]!r}; download it again"
    return None


def other_folder(folder: Path) -> str | None:
    """What `folder` is, by the files in it; None if it may hold a checkpoint."""
    names = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names or "pytorch_lora_weights.safetensors" in names:
        return "a LoRA, which needs the model that it was trained on; attach it there"
    if any(name.endswith(".distcp") for name in names):
        return "a checkpoint in torch's distributed format; make one file of it with dcp_to_torch_save"
    if "model_index.json" in names:
        return "a pipeline of several models; name the folder of one of them"
    return None


def kind_of(names: Collection[str]) -> str | None:
    """What tensors of these names belong to, `TRANSFORMER` and `TOKENIZER` included; None if that is unknown."""
    fitting = (kind for kind, texts in _TENSORS if all(any(text in name for name in names) for text in texts))
    return next(fitting, None)
