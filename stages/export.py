"""export: a finished run as files that diffusers and peft load by themselves, without this project."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.cli import entry, parser, set_up
from stages.files import replacing
from stages.record import recording

if TYPE_CHECKING:
    from stages.backbones import Backbone
    from stages.interventions import Intervention
    from stages.interventions.lowrank import LowRank
    from stages.interventions.weights import Weights

LORA = "pytorch_lora_weights.safetensors"  # what load_lora_weights looks for


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes a checkpoint with changed weights or fixed masks in it, a LoRA's files, or learned token embeddings."""
    options = parser(main.__doc__, "backbone")
    options.add_argument("--run", required=True, help="the folder of the finished run")
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.interventions import load

    run, out = Path(args.run), Path(args.out)
    made = load(run)
    params, inputs = {"backbone": args.backbone, "run": args.run}, [run / "intervention.safetensors"]
    with recording(out, "export", params=params, inputs=inputs):
        write(made, args.backbone, out)
    return 0


def write(made: Intervention, name: str, out: Path) -> None:
    """Writes it in the form that its kind has elsewhere; ValueError for a change that is no file's."""
    from stages.interventions.embedding import Embedding
    from stages.interventions.folding import folded
    from stages.interventions.lowrank import LowRank
    from stages.interventions.mask import Mask
    from stages.interventions.weights import Weights

    if isinstance(made, LowRank):
        write_lora(made.folded(), out)
    elif isinstance(made, Embedding):
        made.export(out)
    elif isinstance(made, Mask | Weights):
        from stages.backbones import load_backbone

        backbone = load_backbone(name)
        write_checkpoint(folded(made, backbone) if isinstance(made, Mask) else made, backbone, out)
    else:
        raise ValueError(
            f"a {type(made).__name__} acts while pictures are sampled and has no form outside this project: "
            f"attach it with stages.interventions.load(run).attach(backbone)"
        )


def write_checkpoint(weights: Weights, backbone: Backbone, out: Path) -> None:
    """The backbone with the values in its networks, which an unmodified pipeline loads."""
    from stages.interventions.weights import fold

    fold(weights, backbone)
    with replacing(out) as folder:
        backbone.save(folder)


def write_lora(lora: LowRank, out: Path) -> None:
    """A folder for `load_lora_weights` and for `PeftModel.from_pretrained`."""
    from safetensors.torch import save_file

    lora.export(out)
    content = {name: value.detach().cpu().contiguous().clone() for name, value in lora.tensors().items()}
    with replacing(out / LORA) as temporary:
        save_file(content, temporary, {"format": "pt"})


if __name__ == "__main__":
    sys.exit(main())
