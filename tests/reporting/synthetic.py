"""An artifacts tree as the other stages leave it, drawn with Pillow in a moment."""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from PIL import Image, ImageDraw

from stages.metrics.base import Metric
from stages.metrics.drift import Drift
from stages.metrics.frechet import Frechet
from stages.metrics.rates import Rates

COLOURS = {"red": "#d03b2f", "green": "#3f9b4f", "blue": "#3a66c8", "yellow": "#dfc034"}
SHAPES = ("circle", "square", "triangle", "cross")
SEEN = {"none": 0.98, "esd": 0.08, "esd_x": 0.2, "esd_u": 0.04, "negative_prompt": 0.45, "oracle": 0.01}  # others: .15
KEPT = {"esd_u": 0.8, "negative_prompt": 0.93}  # others: .98


def write_params(root: Path, source: Path, *, name: str, cells: Sequence[dict], seeds: Sequence[int]) -> Path:
    """The project's params with one more study, and a YAML for each method that is not there."""
    params = root / "params"
    shutil.copytree(source, params, dirs_exist_ok=True)
    study = {
        "name": name,
        "description": "A <b>synthetic</b> study & its tree.",
        "cells": list(cells),
        "seeds": list(seeds),
    }
    study |= {"prompts": {"concept": 12, "retain": 24}, "metrics": ["rates", "frechet", "drift"]}
    (params / "studies" / f"{name}.yaml").write_text(yaml.safe_dump(study))
    for cell in cells:
        for method in cell["methods"]:
            path = params / "methods" / f"{method}.yaml"
            if not path.is_file():
                path.write_text("# A made-up method.\nclass: stages.methods.esd.ESD\n")
        for backbone in cell["backbones"]:
            path = params / "backbones" / f"{backbone}.yaml"
            if not path.is_file():
                path.write_text((params / "backbones" / "sd-shapes.yaml").read_text())
    return params


def write_run(
    artifacts: Path,
    where: tuple[str, str, str, int],
    study: str,
    *,
    concept: int = 12,
    retain: int = 24,
    frames: int = 1,
) -> Path:
    """One finished run: records, samples and metrics."""
    backbone, target, method, seed = where
    folder = artifacts / "runs" / backbone / target / method / str(seed)
    dice = random.Random(f"{where}")
    judged = {}
    for prompts, n in {"concept": concept, "retain": retain}.items():
        judged[prompts] = _write_samples(folder / "samples" / study / prompts, prompts, method, seed, n, frames, dice)
    _write_metrics(folder / "metrics" / study, judged, dice)
    if method != "none":
        _write_records(folder, method, seed, dice)
    return folder


def _write_samples(
    folder: Path, prompts: str, method: str, seed: int, n: int, frames: int, dice: random.Random
) -> dict:
    folder.mkdir(parents=True)
    judged = {"target": [], "colour": [], "shape": [], "joint": [], "broken": []}
    others = [colour for colour in COLOURS if colour != "red"]
    lines = []
    for index in range(n):
        shape = SHAPES[index % 4]
        colour = "red" if prompts == "concept" else others[index // 4 % 3]
        right = dice.random() < (SEEN.get(method, 0.15) if prompts == "concept" else KEPT.get(method, 0.98))
        drawn = colour if right else dice.choice(others)
        position = random.Random(f"{seed} {prompts} {index}")
        name = _draw(folder, index, drawn, shape, frames, position)
        prompt = f"{position.choice(['', 'a photo of '])}a {colour} {shape}"
        line = {
            "file": name,
            "index": index,
            "prompt": prompt,
            "seed": 100 * index + 10**6 * seed,
            "colour": colour,
            "shape": shape,
        }
        lines.append(line | ({"frames": frames} if frames > 1 else {}))
        for key, value in {
            "target": drawn == "red",
            "colour": drawn == colour,
            "shape": True,
            "joint": drawn == colour,
        }.items():
            judged[key].append(int(value))
        judged["broken"].append(0)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return judged


def _draw(folder: Path, index: int, colour: str, shape: str, frames: int, dice: random.Random) -> str:
    x, y, r, ground = (
        dice.randint(13, 18),
        dice.randint(13, 18),
        dice.randint(8, 10),
        dice.choice(["#1c1f26", "#e7e4dc"]),
    )
    images = []
    for step in range(frames):
        image = Image.new("RGB", (32, 32), ground)
        pen, left = ImageDraw.Draw(image), x + 2 * step - frames
        if shape == "circle":
            pen.ellipse((left - r, y - r, left + r, y + r), fill=COLOURS[colour])
        elif shape == "square":
            pen.rectangle((left - r, y - r, left + r, y + r), fill=COLOURS[colour])
        elif shape == "triangle":
            pen.polygon([(left, y - r), (left - r, y + r), (left + r, y + r)], fill=COLOURS[colour])
        else:
            pen.rectangle((left - 3, y - r, left + 3, y + r), fill=COLOURS[colour])
            pen.rectangle((left - r, y - 3, left + r, y + 3), fill=COLOURS[colour])
        images.append(Image.blend(image, Image.frombytes("RGB", (32, 32), dice.randbytes(3072)), 0.05))
    name = f"{index:04d}"
    if frames == 1:
        images[0].save(folder / f"{name}.png")
        return f"{name}.png"
    (folder / name).mkdir()
    for number, image in enumerate(images):
        image.save(folder / name / f"{number:02d}.png")
    return name


def _write_metrics(folder: Path, judged: dict, dice: random.Random) -> None:
    def row(prompts: str, metric: str, value: float, n: int, spread: float | None = 0.05) -> dict:
        low, high = (None, None) if spread is None else (value - spread, value + spread)
        return {"prompts": prompts, "metric": metric, "value": value, "ci_low": low, "ci_high": high, "n": n}

    rates, drifts = [], {}
    names = {"concept": ("target", "shape", "broken"), "retain": ("colour", "shape", "joint", "target", "broken")}
    for prompts, outcomes in judged.items():
        n = len(outcomes["target"])
        for name in names[prompts]:
            rates.append(row(prompts, f"{name}_rate", sum(outcomes[name]) / n, n))
            rates.append(row(prompts, f"{name}_rate_change", 0.0, n))
        drifts[prompts] = {"pixel_drift": [dice.uniform(0.02, 0.05) for _ in range(n)]}
    n = len(judged["retain"]["target"])
    files = {
        "rates": {"rows": rates, "samples": judged, "columns": columns(Rates())},
        "frechet": {
            "rows": [row("retain", "frechet_unedited", dice.uniform(0.02, 0.4), n, None)],
            "samples": {},
            "columns": columns(Frechet()),
        },
        "drift": {
            "columns": columns(Drift()),
            "rows": [
                row(p, "pixel_drift", sum(d["pixel_drift"]) / len(d["pixel_drift"]), n) for p, d in drifts.items()
            ],
            "samples": drifts,
        },
    }
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps({"metric": name} | content))


def _write_records(folder: Path, method: str, seed: int, dice: random.Random) -> None:
    record = {
        "stage": "train",
        "params": {"class": "stages.methods.esd.ESD", "train": "x", "steps": 150, "lr": 3e-4, "batch": 16},
        "seed": seed,
        "git": {"commit": "3f2a91c04be7d5a8e6b1c2d3e4f5a6b7c8d9e0f1", "dirty": seed == 1},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "diffusers": "0.42.0"},
        "device": "cpu (x86_64)",
        "threads": 1,
        "seconds": dice.uniform(9, 40),
        "phases": {"import": 4.0, "set_up": 1.0, "work": dice.uniform(8, 35)},
        "cpu_seconds": 9.0,
        "peak_memory_mb": dice.uniform(800, 1200),
        "inputs": {"artifacts/runs/sd-shapes/red/latents.safetensors": "ab" * 32},
        "curves": {} if method == "negative_prompt" else {method: {"every": 1, "loss": _curve(dice), "seconds": 8.0}},
        "notes": {"parameters": 0 if method == "negative_prompt" else 184320},
    }
    (folder / "record-train.json").write_text(json.dumps(record))
    sampled = {key: record[key] for key in ("git", "versions", "device", "threads", "peak_memory_mb", "seed", "phases")}
    path = folder / "samples" / next((folder / "samples").iterdir()).name / "record-sample.json"
    path.write_text(json.dumps(sampled | {"stage": "sample", "seconds": dice.uniform(3, 6)}))


def columns(metric: Metric) -> list[dict]:
    """The columns of a metric as its file has them."""
    return [asdict(column) for column in metric.columns()]


def _curve(dice: random.Random) -> list[float]:
    return [round(0.05 + 0.4 * 0.97**step * dice.uniform(0.8, 1.2), 6) for step in range(150)]
