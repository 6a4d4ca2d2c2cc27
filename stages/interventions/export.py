"""An intervention as files that diffusers and peft load by themselves: a checkpoint, a LoRA or token embeddings."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from stages.backbones import Backbone, load_backbone
from stages.backbones.core.capabilities import Saves, needs
from stages.interventions.base import Intervention
from stages.interventions.embedding import Embedding
from stages.interventions.lowrank import LowRank
from stages.interventions.masks.fold import folded
from stages.interventions.masks.mask import Mask
from stages.interventions.membrane import Membrane
from stages.interventions.weights import Weights, fold
from stages.store.files import replacing
from stages.store.finite import check_tensors

LORA = "pytorch_lora_weights.safetensors"  # what load_lora_weights looks for


def form(made: Intervention) -> str:
    """What `write` makes of it: `checkpoint`, `lora` or `embedding`; empty for a change that is no file's."""
    if isinstance(made, LowRank | Membrane):
        return "lora"
    if isinstance(made, Embedding):
        return "embedding" if made.spec().get("mode") == "input" else ""
    return "checkpoint" if isinstance(made, Mask | Weights) else ""


def write(made: Intervention, name: str, out: Path, gate: float = 1.0) -> None:
    """Writes it in the form that its kind has elsewhere; ValueError for a change that is no file's.

    A membrane, whose gate others cannot read, is a LoRA at that one `gate` for all prompts.

    FloatingPointError names tensors that are not finite, of the change or of the checkpoint that it gives.
    """
    check_tensors(f"the {type(made).__name__}", made.tensors())
    if isinstance(made, LowRank):
        write_lora(made.folded(), out)
    elif isinstance(made, Membrane):
        write_lora(made.fixed(gate), out)
    elif isinstance(made, Embedding):
        made.export(out, load_backbone(name))
    elif isinstance(made, Mask | Weights):
        backbone = load_backbone(name)
        write_checkpoint(folded(made, backbone) if isinstance(made, Mask) else made, backbone, out)
    else:
        raise ValueError(
            f"a {type(made).__name__} acts while pictures are sampled and has no form outside this project: "
            f"attach it with stages.interventions.load(run).attach(backbone)"
        )


def write_checkpoint(weights: Weights, backbone: Backbone, out: Path) -> None:
    """The backbone with the values in its networks, which an unmodified pipeline loads; errors as of `write`."""
    check_tensors(f"the {type(weights).__name__}", weights.tensors())
    fold(weights, backbone)
    for part, module in backbone.modules().items():
        check_tensors(f"{backbone.name}: {part}", dict(module.named_parameters()))
    with replacing(out) as folder:
        needs(backbone, Saves, "export an intervention of another backbone").save(folder)


def write_lora(lora: LowRank, out: Path) -> None:
    """A folder for `load_lora_weights` and for `PeftModel.from_pretrained`."""
    check_tensors("the LoRA", lora.tensors())
    lora.export(out)
    content = {name: value.detach().cpu().contiguous().clone() for name, value in lora.tensors().items()}
    with replacing(out / LORA) as temporary:
        save_file(content, temporary, {"format": "pt"})
