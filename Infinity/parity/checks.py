"""Every check of a fixture folder: schedule, tokenizer, self-correction, training and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..correction import Corrected, self_correct
from ..loss import bitwise_loss
from ..names import published_transformer_name
from ..quantizer import resize, shrink, sum_codes
from ..rope import rotations
from ..transformer import margins
from .check import CODES, LOSS, ROPE, Check, bits, close, equal, near, relative, rounding, size
from .fixture import Fixture, recorded, recorded_bits, tags
from .inference import inference


def run(folder: str | Path) -> Iterator[Check]:
    """All checks of a fixture folder, as they are computed."""
    fixture = Fixture(folder)
    for part in (_schedule, _encoder, _decoder, _correction, _training, _gradients, inference):
        yield from part(fixture)


def _schedule(fixture: Fixture) -> Iterator[Check]:
    recorded = [tuple(grid[1:]) for grid in fixture.manifest["scale_schedule"]]
    wrong = sum(ours != theirs for ours, theirs in zip(fixture.schedule.grids, recorded, strict=True))
    yield Check("schedule", wrong, 0)
    table = fixture.outputs.get("rope.cos_sin")
    if table is not None:
        turns = rotations(fixture.schedule, fixture.model.config.head_width)
        yield close("rope.cos_sin", torch.view_as_real(turns).permute(2, 0, 1), table, ROPE)


@torch.no_grad()
def _encoder(fixture: Fixture) -> Iterator[Check]:
    outputs, grids = fixture.outputs, fixture.schedule.finer(fixture.patchify)
    if "vae.encode.bits.0" not in outputs:
        return
    ours = fixture.quantized
    if "vae.encode.raw_features" in outputs:
        features = fixture.tokenizer.features(fixture.inputs["image"])
        theirs = outputs["vae.encode.raw_features"]
        allowed = rounding(fixture.tokenizer.encoder, size(theirs))
        yield close("vae.encode.raw_features", features, theirs, allowed)
    yield from bits("vae.encode.bits", ours.bits, outputs)
    if "vae.encode.quantized_sum" in outputs:
        yield near("vae.encode.quantized_sum", ours.summed, outputs["vae.encode.quantized_sum"], CODES)
    summed: Tensor | float = 0.0
    for index, code in enumerate(ours.codes[:-1]):
        name = f"vae.encode.var_inputs_area.{index}"
        summed = summed + resize(code, grids[-1])
        if name in outputs:
            yield near(name, shrink(summed, grids[index + 1]), outputs[name], CODES)


@torch.no_grad()
def _decoder(fixture: Fixture) -> Iterator[Check]:
    outputs = fixture.outputs
    codes_bits = recorded_bits("vae.encode.bits", outputs)
    if not codes_bits:
        return
    full = fixture.schedule.finer(fixture.patchify)[-1]
    if "vae.decode_from_bits.summed_codes" in outputs:
        recorded = outputs["vae.decode_from_bits.summed_codes"]
        yield near("vae.decode_from_bits.summed_codes", sum_codes(codes_bits, full), recorded, CODES)
    for name, codes in {
        "vae.decode_from_bits.image": sum_codes(codes_bits, full),
        "vae.decode_quantized_sum.image": fixture.quantized.summed,
    }.items():
        if name in outputs:
            yield close(name, fixture.tokenizer.decode(codes), outputs[name], rounding(fixture.tokenizer.decoder, 1.0))


def correct(fixture: Fixture, tag: str) -> Corrected:
    """Self-correction of the recorded picture with the recorded flips (none when they were not fed back)."""
    settings = fixture.results.get("bsc", {})
    flips = recorded(f"bsc.{tag}.flip_mask", fixture.outputs) if settings.get("requant", 1) else []
    features = fixture.tokenizer.features(fixture.inputs["image"])
    return self_correct(features, fixture.schedule, [flip.bool() for flip in flips], patchify=fixture.patchify)


@torch.no_grad()
def _correction(fixture: Fixture) -> Iterator[Check]:
    for tag in tags("bsc.", fixture.outputs):
        ours, outputs = correct(fixture, tag), fixture.outputs
        yield from bits(f"bsc.{tag}.flipped_bits", ours.fed_back, outputs)
        if f"bsc.{tag}.gt_BL" in outputs:
            yield equal(f"bsc.{tag}.gt_BL", ours.labels, outputs[f"bsc.{tag}.gt_BL"])
        if f"bsc.{tag}.x_BLC_wo_prefix" in outputs:
            yield near(f"bsc.{tag}.x_BLC_wo_prefix", ours.inputs, outputs[f"bsc.{tag}.x_BLC_wo_prefix"], CODES)


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
            theirs = fixture.outputs[name]
            yield close(name, _logits(fixture, dropped).flatten(2), theirs, rounding(fixture.model, size(theirs)))
    for name, (dropped, reweight) in {
        "train_loss_plain": (None, False),
        "train_loss_reweight_by_scale": (None, True),
        "train_loss_reweight_drop1": (1, True),
    }.items():
        if name in fixture.results:
            loss = _loss(fixture, dropped=dropped, reweight=reweight)
            yield Check(name, abs(float(loss) - fixture.results[name]), LOSS * abs(fixture.results[name]))


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
            yield relative(f"grad.{tag}.{name}", ours.get(name), recorded.get(name))
