"""Compare this implementation with recorded numbers: `python -m Infinity.parity FOLDER`.

FOLDER holds fixture.json (settings), inputs, outputs, grads, transformer and vae safetensors. Every check that the folder has
numbers for is run; one line each is printed, and the exit code is 1 when any fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from .choice import Noise, shared_noise
from .correction import Corrected, self_correct
from .loss import bitwise_loss
from .names import from_published_tokenizer, from_published_transformer, published_transformer_name
from .quantizer import Quantized, resize, shrink, sum_codes
from .reading import CheckpointError, read_state
from .rope import rotations
from .sampling import Sampling, ScaleResult, sample_scales
from .schedules import Schedule, schedule
from .text import Text
from .tokenizer import Tokenizer
from .transformer import Infinity, margins

LOGITS, IMAGE, LOSS, ROPE, GRADIENT, CODES = 2e-5, 2e-5, 1e-5, 1e-6, 1e-4, 2e-5


@dataclass(frozen=True)
class Check:
    """One comparison: its name, its error and the largest error allowed."""

    name: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within bounds."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.name:<48} error {self.error:.2e} allowed {self.allowed:.0e}"


class Fixture:
    """A folder of recorded numbers, and the models it describes."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not (folder / "fixture.json").is_file():
            raise CheckpointError(f"{folder} holds no fixture.json")
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "fixture.json").read_text())
        self.results: dict[str, Any] = self.manifest.get("results", {})
        self.flags: dict[str, Any] = self.manifest.get("config", {}).get("infinity", {})
        self.patchify = 2 if self.flags.get("apply_spatial_patchify") else 1
        self._refuse_variants()

    def _refuse_variants(self) -> None:
        wanted = {"rope2d_each_sa_layer": 1, "rope2d_normalized_by_hw": 2, "add_lvl_embeding_only_first_block": 1}
        for name, value in {**wanted, "use_bit_label": 1, "shared_aln": 1}.items():
            if int(self.flags.get(name, value)) != value:
                raise CheckpointError(f"{self.folder}: {name} must be {value}, got {self.flags[name]}")

    def _file(self, name: str) -> dict[str, Tensor]:
        path = self.folder / f"{name}.safetensors"
        return load_file(path) if path.is_file() else {}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Pictures and text."""
        return self._file("inputs")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Recorded results."""
        return self._file("outputs")

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Recorded gradients, `loss.parameter`."""
        return self._file("grads")

    @cached_property
    def model(self) -> Infinity:
        """The transformer, its sizes read from its tensors."""
        state, config = from_published_transformer(read_state(self.folder / "transformer.safetensors"))
        return Infinity.from_state(config, state, source=self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, its sizes read from its tensors."""
        published = read_state(self.folder / "vae.safetensors")
        state, config = from_published_tokenizer(published, patchify=self.patchify)
        return Tokenizer.from_state(config, state, source=self.folder)

    @cached_property
    def schedule(self) -> Schedule:
        """The published schedule that the manifest names, cut to the scales it used."""
        full = schedule(self.manifest["pn"], self.manifest["h_div_w"])
        return full.prefix(len(self.manifest["scale_schedule"]))

    def text(self, name: str) -> Text:
        """The `text` or `neg` prompts."""
        ends = self.inputs[f"{name}_cu_seqlens"]
        return Text(self.inputs[f"{name}_kv_compact"].float(), tuple(ends.diff().tolist()))

    @cached_property
    def quantized(self) -> Quantized:
        """Our encoding of the recorded picture."""
        with torch.no_grad():
            return self.tokenizer.encode(self.inputs["image"], self.schedule)


def run(folder: str | Path) -> Iterator[Check]:
    """All checks of a fixture folder, as they are computed."""
    fixture = Fixture(folder)
    for part in (_schedule, _encoder, _decoder, _correction, _training, _gradients, _inference):
        yield from part(fixture)


def _schedule(fixture: Fixture) -> Iterator[Check]:
    recorded = [tuple(grid[1:]) for grid in fixture.manifest["scale_schedule"]]
    wrong = sum(ours != theirs for ours, theirs in zip(fixture.schedule.grids, recorded, strict=True))
    yield Check("schedule", wrong, 0)
    table = fixture.outputs.get("rope.cos_sin")
    if table is not None:
        turns = rotations(fixture.schedule, fixture.model.config.head_width)
        yield _close("rope.cos_sin", torch.view_as_real(turns).permute(2, 0, 1), table, ROPE)


@torch.no_grad()
def _encoder(fixture: Fixture) -> Iterator[Check]:
    outputs, grids = fixture.outputs, fixture.schedule.finer(fixture.patchify)
    if "vae.encode.bits.0" not in outputs:
        return
    ours = fixture.quantized
    if "vae.encode.raw_features" in outputs:
        features = fixture.tokenizer.features(fixture.inputs["image"])
        yield _close("vae.encode.raw_features", features, outputs["vae.encode.raw_features"], CODES)
    yield from _bits("vae.encode.bits", ours.bits, outputs)
    if "vae.encode.quantized_sum" in outputs:
        yield _close("vae.encode.quantized_sum", ours.summed, outputs["vae.encode.quantized_sum"], CODES)
    summed: Tensor | float = 0.0
    for index, code in enumerate(ours.codes[:-1]):
        name = f"vae.encode.var_inputs_area.{index}"
        summed = summed + resize(code, grids[-1])
        if name in outputs:
            yield _close(name, shrink(summed, grids[index + 1]), outputs[name].squeeze(2), CODES)


@torch.no_grad()
def _decoder(fixture: Fixture) -> Iterator[Check]:
    outputs = fixture.outputs
    bits = _recorded_bits("vae.encode.bits", outputs)
    if not bits:
        return
    full = fixture.schedule.finer(fixture.patchify)[-1]
    if "vae.decode_from_bits.summed_codes" in outputs:
        recorded = outputs["vae.decode_from_bits.summed_codes"].squeeze(2)
        yield _close("vae.decode_from_bits.summed_codes", sum_codes(bits, full), recorded, CODES)
    for name, codes in {
        "vae.decode_from_bits.image": sum_codes(bits, full),
        "vae.decode_quantized_sum.image": fixture.quantized.summed,
    }.items():
        if name in outputs:
            yield _close(name, fixture.tokenizer.decode(codes), outputs[name], IMAGE)


def _correct(fixture: Fixture, tag: str) -> Corrected:
    """Self-correction of the recorded picture with the recorded flips (none when they were not fed back)."""
    settings = fixture.results.get("bsc", {})
    flips = _recorded(f"bsc.{tag}.flip_mask", fixture.outputs) if settings.get("requant", 1) else []
    features = fixture.tokenizer.features(fixture.inputs["image"])
    return self_correct(features, fixture.schedule, [flip.bool() for flip in flips], patchify=fixture.patchify)


@torch.no_grad()
def _correction(fixture: Fixture) -> Iterator[Check]:
    for tag in _tags("bsc.", fixture.outputs):
        ours, outputs = _correct(fixture, tag), fixture.outputs
        yield from _bits(f"bsc.{tag}.flipped_bits", ours.fed_back, outputs)
        if f"bsc.{tag}.gt_BL" in outputs:
            yield _equal(f"bsc.{tag}.gt_BL", ours.labels, outputs[f"bsc.{tag}.gt_BL"])
        if f"bsc.{tag}.x_BLC_wo_prefix" in outputs:
            yield _close(f"bsc.{tag}.x_BLC_wo_prefix", ours.inputs, outputs[f"bsc.{tag}.x_BLC_wo_prefix"], CODES)


def _logits(fixture: Fixture, dropped: int | None) -> Tensor:
    text = fixture.text("text")
    drop = None if dropped is None else torch.arange(len(text)) == dropped
    return fixture.model(fixture.outputs["bsc.noise.x_BLC_wo_prefix"], text, fixture.schedule, drop=drop)


def _loss(fixture: Fixture, *, dropped: int | None, reweight: bool) -> Tensor:
    labels = fixture.outputs["bsc.noise.gt_BL"]
    return bitwise_loss(margins(_logits(fixture, dropped)), labels, fixture.schedule, reweight=reweight)


@torch.no_grad()
def _training(fixture: Fixture) -> Iterator[Check]:
    if "bsc.noise.x_BLC_wo_prefix" not in fixture.outputs:
        return
    for name, dropped in {"train.logits": None, "train.logits_drop_cond_sample1": 1}.items():
        if name in fixture.outputs:
            yield _close(name, _logits(fixture, dropped).flatten(2), fixture.outputs[name], LOGITS)
    for name, (dropped, reweight) in {
        "train_loss_plain": (None, False),
        "train_loss_reweight_by_scale": (None, True),
        "train_loss_reweight_drop1": (1, True),
    }.items():
        if name in fixture.results:
            loss = _loss(fixture, dropped=dropped, reweight=reweight)
            yield Check(name, abs(float(loss) - fixture.results[name]), LOSS)


def _gradients(fixture: Fixture) -> Iterator[Check]:
    for tag, dropped, reweight in (("plain", None, False), ("drop1_reweight", 1, True)):
        recorded = {k.removeprefix(f"{tag}."): v for k, v in fixture.gradients.items() if k.startswith(f"{tag}.")}
        if not recorded:
            continue
        model = fixture.model
        model.zero_grad()
        _loss(fixture, dropped=dropped, reweight=reweight).backward()
        ours = {
            published_transformer_name(name, model.config): torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in model.named_parameters()
        }
        model.zero_grad()
        for name in sorted(recorded.keys() | ours.keys()):
            yield _relative(f"grad.{tag}.{name}", ours.get(name), recorded.get(name))


def _inference(fixture: Fixture) -> Iterator[Check]:
    for tag in fixture.results.get("infer", {}):
        yield from _sampled(fixture, tag, _recorded_noise(fixture, tag), f"infer.{tag}")
    for tag, settings in fixture.results.get("infer", {}).items():
        seed = settings.get("g_seed")
        if seed is not None:
            yield from _sampled(fixture, tag, shared_noise(seed), f"infer.{tag} from its seed", bits_only=True)


def _sampled(fixture: Fixture, tag: str, noise: Noise, label: str, *, bits_only: bool = False) -> Iterator[Check]:
    outputs, prefix = fixture.outputs, f"infer.{tag}"
    results = _sample(fixture, fixture.results["infer"][tag], noise)
    yield from _bits(f"{prefix}.bits", [result.bits for result in results], outputs, label=f"{label}: bits")
    if bits_only:
        return
    for result in results:
        yield from _scale(result, prefix, outputs)
    if f"{prefix}.summed_codes" in outputs:
        yield _close(f"{prefix}.summed_codes", results[-1].summed, outputs[f"{prefix}.summed_codes"], CODES)
    with torch.no_grad():
        image = fixture.tokenizer.decode(results[-1].summed)
    if f"{prefix}.decoded" in outputs:
        yield _close(f"{prefix}.decoded", image, outputs[f"{prefix}.decoded"], IMAGE)
    if f"{prefix}.image_uint8_bgr" in outputs:
        ours = ((image + 1) / 2 * 255).to(torch.uint8).permute(0, 2, 3, 1).flip(-1)
        yield _close(f"{prefix}.image_uint8_bgr", ours.float(), outputs[f"{prefix}.image_uint8_bgr"].float(), 1)


def _sample(fixture: Fixture, settings: dict[str, Any], noise: Noise) -> list[ScaleResult]:
    forced = _recorded_bits("vae.encode.bits", fixture.outputs)[: max(0, settings.get("gt_leak", 0))]
    text = fixture.text("text").select(range(settings.get("B", len(fixture.text("text")))))
    return list(
        sample_scales(
            fixture.model,
            text,
            fixture.schedule,
            Sampling(
                guidance=settings["cfg_list"],
                temperature=settings["tau_list"],
                top_k=settings["top_k"],
                top_p=settings["top_p"],
                insertion=tuple(settings["cfg_insertion_layer"]),
                stop=settings.get("trunk_scale"),
            ),
            noise=noise,
            negative=fixture.text("neg").select(range(len(text))) if settings.get("negative_prompt") else None,
            forced=[bits[: len(text)] for bits in forced],
            patchify=fixture.patchify,
        )
    )


def _scale(result: ScaleResult, prefix: str, outputs: dict[str, Tensor]) -> Iterator[Check]:
    index = result.step.index
    name = f"{prefix}.raw_logits.{index}"
    if name in outputs:
        rows = min(len(outputs[name]), len(result.logits))
        yield _close(name, result.logits[:rows].flatten(2), outputs[name][:rows], LOGITS)
    name = f"{prefix}.next_input.{index}"
    if name in outputs and result.inputs is not None:
        yield _close(name, result.inputs, outputs[name], CODES)
    name = f"{prefix}.summed_codes_after.{index}"
    if name in outputs:
        yield _close(name, result.summed, outputs[name].reshape(result.summed.shape), CODES)


def _recorded_noise(fixture: Fixture, tag: str) -> Noise:
    draws = _recorded(f"infer.{tag}.exp_noise", fixture.outputs)
    seed = fixture.results["infer"][tag].get("g_seed")
    if not draws:
        return shared_noise(seed or 0)
    return lambda scale, shape: draws[scale].view(*shape, 2)


def _tags(prefix: str, outputs: dict[str, Tensor]) -> list[str]:
    return sorted({name.removeprefix(prefix).split(".")[0] for name in outputs if name.startswith(prefix)})


def _recorded(prefix: str, outputs: dict[str, Tensor]) -> list[Tensor]:
    """Tensors `prefix.0`, `prefix.1`, ... with the time axis (B, 1, h, w, d) dropped where there is one."""
    found = []
    while f"{prefix}.{len(found)}" in outputs:
        tensor = outputs[f"{prefix}.{len(found)}"]
        found.append(tensor.squeeze(1) if tensor.ndim == 5 else tensor)
    return found


def _recorded_bits(prefix: str, outputs: dict[str, Tensor]) -> list[Tensor]:
    return [tensor.bool() for tensor in _recorded(prefix, outputs)]


def _bits(
    prefix: str, ours: tuple[Tensor, ...] | list[Tensor], outputs: dict[str, Tensor], *, label: str = ""
) -> Iterator[Check]:
    for index, recorded in enumerate(_recorded_bits(prefix, outputs)):
        mine = ours[index] if index < len(ours) else None
        yield _equal(f"{label or prefix}.{index}", mine, recorded)


def _equal(name: str, ours: Tensor | None, recorded: Tensor) -> Check:
    """Number of entries that differ."""
    if ours is None or ours.shape != recorded.shape:
        return Check(name, float("inf"), 0)
    return Check(name, float((ours.bool() != recorded.bool()).sum()), 0)


def _close(name: str, ours: Tensor, recorded: Tensor, allowed: float) -> Check:
    """Largest absolute difference."""
    if ours.shape != recorded.shape:
        return Check(name, float("inf"), allowed)
    return Check(name, float((ours - recorded).abs().max()), allowed)


def _relative(name: str, ours: Tensor | None, recorded: Tensor | None) -> Check:
    """Norm of the difference over the norm of the recorded tensor."""
    if ours is None or recorded is None or ours.numel() != recorded.numel():
        return Check(name, float("inf"), GRADIENT)
    scale = max(float(recorded.norm()), 1e-12)
    return Check(name, float((ours.reshape(recorded.shape) - recorded).norm()) / scale, GRADIENT)


def main(argv: list[str] | None = None, write: Callable[[str], None] = print) -> int:
    """Print every check; 0 when all pass, 1 when one fails, 2 when the folder cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m Infinity.parity", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="a folder with fixture.json and its safetensors")
    parser.add_argument("--failed", action="store_true", help="print failed checks only")
    arguments = parser.parse_args(argv)
    checks = []
    try:
        for check in run(arguments.folder):
            checks.append(check)
            if not (arguments.failed and check.passed):
                write(str(check))
    except CheckpointError as error:
        parser.error(str(error))
    failed = sum(not check.passed for check in checks)
    write(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
