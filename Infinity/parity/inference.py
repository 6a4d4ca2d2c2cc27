"""Checks of every recorded way of sampling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..choice import Noise, shared_noise
from ..sampling import sample_scales
from ..settings import Sampling, ScaleResult
from .check import CODES, Check, bits, close, near, rounding, size
from .fixture import Fixture, recorded, recorded_bits


def inference(fixture: Fixture) -> Iterator[Check]:
    for tag in fixture.results.get("infer", {}):
        yield from _sampled(fixture, tag, _recorded_noise(fixture, tag), f"infer.{tag}")
    for tag, settings in fixture.results.get("infer", {}).items():
        seed = settings.get("g_seed")
        if seed is not None:
            yield from _sampled(fixture, tag, shared_noise(seed), f"infer.{tag} from its seed", bits_only=True)


def _sampled(fixture: Fixture, tag: str, noise: Noise, label: str, *, bits_only: bool = False) -> Iterator[Check]:
    outputs, prefix = fixture.outputs, f"infer.{tag}"
    results = _sample(fixture, fixture.results["infer"][tag], noise)
    yield from bits(f"{prefix}.bits", [result.bits for result in results], outputs, label=f"{label}: bits")
    if bits_only:
        return
    for result in results:
        yield from _scale(result, prefix, fixture)
    if f"{prefix}.summed_codes" in outputs:
        yield near(f"{prefix}.summed_codes", results[-1].summed, outputs[f"{prefix}.summed_codes"], CODES)
    with torch.no_grad():
        image = fixture.tokenizer.decode(results[-1].summed)
    if f"{prefix}.decoded" in outputs:
        yield close(f"{prefix}.decoded", image, outputs[f"{prefix}.decoded"], rounding(fixture.tokenizer.decoder, 1.0))
    if f"{prefix}.image_uint8_bgr" in outputs:
        ours = ((image + 1) / 2 * 255).to(torch.uint8).permute(0, 2, 3, 1).flip(-1)
        yield close(f"{prefix}.image_uint8_bgr", ours.float(), outputs[f"{prefix}.image_uint8_bgr"].float(), 1)


def _sample(fixture: Fixture, settings: dict[str, Any], noise: Noise) -> list[ScaleResult]:
    forced = recorded_bits("vae.encode.bits", fixture.outputs)[: max(0, settings.get("gt_leak", 0))]
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
                patchify=fixture.patchify,
                forced=[one[: len(text)] for one in forced],
            ),
            noise=noise,
            negative=fixture.text("neg").select(range(len(text))) if settings.get("negative_prompt") else None,
        )
    )


def _scale(result: ScaleResult, prefix: str, fixture: Fixture) -> Iterator[Check]:
    index, outputs = result.step.index, fixture.outputs
    name = f"{prefix}.raw_logits.{index}"
    if name in outputs:
        rows = min(len(outputs[name]), len(result.logits))
        theirs = outputs[name][:rows]
        yield close(name, result.logits[:rows].flatten(2), theirs, rounding(fixture.model, size(theirs)))
    name = f"{prefix}.next_input.{index}"
    if name in outputs and result.inputs is not None:
        yield near(name, result.inputs, outputs[name], CODES)
    name = f"{prefix}.summed_codes_after.{index}"
    if name in outputs:
        yield near(name, result.summed, outputs[name].reshape(result.summed.shape), CODES)


def _recorded_noise(fixture: Fixture, tag: str) -> Noise:
    draws = recorded(f"infer.{tag}.exp_noise", fixture.outputs)
    seed = fixture.results["infer"][tag].get("g_seed")
    if not draws:
        return shared_noise(seed or 0)
    return lambda scale, shape: draws[scale].view(*shape, 2)
