"""Setups of prototype steering: which scales and layers, how strongly; from the documented JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.params.project import located

ALL = -1  # every layer
EVERY = "all"  # every scale, or every step of the sampler
SCALE_KEYS = ("layers", "strength_cond", "strength_uncond")
SETUP_KEYS = ("scales", "layers_text", "strength_text")
Strength = float | Mapping[int, float]  # one for all layers, or one per layer


@dataclass(frozen=True)
class Scale:
    """One scale's layers, (-1,) for all, and the strengths on both halves of guidance."""

    layers: tuple[int, ...]
    strength_cond: Strength = 0.0
    strength_uncond: Strength = 0.0

    def at(self, layer: int) -> tuple[float, float]:
        """Conditional and unconditional strength of one layer."""
        return _of(self.strength_cond, layer), _of(self.strength_uncond, layer)

    def narrowed(self, layers: Sequence[int]) -> Scale:
        """The same in these of its layers only, -1 for all of them."""
        return replace(self, layers=_narrowed(self.layers, layers))


@dataclass(frozen=True)
class Setup:
    """What is steered: by scale (a missing one is off), and in the text encoder."""

    scales: Mapping[int | str, Scale] = field(default_factory=dict)
    layers_text: tuple[int, ...] = ()
    strength_text: float = 0.0

    def scale(self, step: int | str) -> Scale | None:
        """The setup of one scale, if there is one."""
        return self.scales.get(step, self.scales.get(EVERY))

    def narrowed(self, scales: Sequence[int], layers: Sequence[int]) -> Setup:
        """The same at these of its scales and in these of their layers only; an empty sequence leaves all, -1, too.

        ValueError names what leaves nothing of a setup to steer.
        """
        chosen = dict.fromkeys(scales) if scales and ALL not in scales else self.scales
        found = {step: scale for step in chosen if (scale := self.scale(step)) is not None}
        if scales and not any(scale.layers for scale in found.values()):
            raise ValueError(f"scales: the setup steers none of {list(scales)}, only {self._steered()}")
        narrow = {step: scale.narrowed(layers) if layers else scale for step, scale in found.items()}
        if layers and not any(scale.layers for scale in narrow.values()):
            have = sorted({layer for scale in found.values() for layer in scale.layers})
            raise ValueError(f"layers: the setup steers none of {list(layers)} there, only {have}")
        return replace(self, scales=narrow)

    def narrowed_text(self, layers: Sequence[int]) -> Setup:
        """The same in these of its text layers only; an empty sequence leaves all, -1, too. Errors as of `narrowed`."""
        kept = _narrowed(self.layers_text, layers) if layers else self.layers_text
        if layers and not kept:
            raise ValueError(f"layers: the setup steers none of {list(layers)} of text, only {list(self.layers_text)}")
        return replace(self, layers_text=kept)

    def _steered(self) -> list[int | str]:
        return [step for step, scale in self.scales.items() if scale.layers]

    def check(self, scales: int, layers: int, text_layers: int) -> None:
        """ValueError names the field that a network of this size does not have."""
        for step, scale in self.scales.items():
            if isinstance(step, int) and not 0 <= step < scales:
                raise ValueError(f"scales: {step} must be 0 to {scales - 1}")
            _inside(f"scales.{step}.layers", scale.layers, layers)
            for key in SCALE_KEYS[1:]:
                one = getattr(scale, key)
                _inside(f"scales.{step}.{key}", one if isinstance(one, Mapping) else (), layers)
        _inside("layers_text", self.layers_text, text_layers)


def read_setups(path: Path | str) -> list[Setup]:
    """One object or a list of them, with or without a trailing comma; ValueError names the file and the field."""
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the experiment's setup")
    text = re.sub(r",(?=\s*([}\]]|$))", "", path.read_text(encoding="utf-8").strip())
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    rows = content if isinstance(content, list) else [content]
    if not rows:
        raise ValueError(f"{path}: no setup in it")
    setups = []
    for number, row in enumerate(rows):
        try:
            setups.append(parse_setup(row))
        except ValueError as error:
            which = f"setup {number}: " if isinstance(content, list) else ""
            raise ValueError(f"{path}: {which}{error}") from None
    return setups


def parse_setup(content: Any) -> Setup:
    """A setup from the documented mapping; ValueError names the field that is wrong."""
    if not isinstance(content, Mapping):
        raise ValueError(f"setup: expected an object with {', '.join(SETUP_KEYS)}, got {content!r}")
    _known("setup", content, SETUP_KEYS)
    scales = content.get("scales", {})
    if not isinstance(scales, Mapping):
        raise ValueError(f"scales: expected an object from scale to setup, got {scales!r}")
    layers_text = _layers("layers_text", content.get("layers_text", []))
    strength = _number("strength_text", content.get("strength_text", 0.0))
    return Setup({_step(key): _scale(f"scales.{key}", value) for key, value in scales.items()}, layers_text, strength)


def _narrowed(own: Sequence[int], layers: Sequence[int]) -> tuple[int, ...]:
    if ALL in layers:
        return tuple(own)
    return tuple(layer for layer in layers if layer in own or ALL in own)


def _scale(name: str, content: Any) -> Scale:
    if not isinstance(content, Mapping):
        raise ValueError(f"{name}: expected an object with {', '.join(SCALE_KEYS)}, got {content!r}")
    _known(name, content, SCALE_KEYS)
    layers = _layers(f"{name}.layers", content.get("layers", []))
    cond, uncond = (_strength(f"{name}.{key}", content.get(key, 0.0), layers) for key in SCALE_KEYS[1:])
    return Scale(layers, cond, uncond)


def _step(key: Any) -> int | str:
    if key == EVERY:
        return EVERY
    if not str(key).isdigit():
        raise ValueError(f"scales: {key!r} must be a scale's number, or {EVERY!r}")
    return int(key)


def _layers(name: str, value: Any) -> tuple[int, ...]:
    if value == 0 and not isinstance(value, bool):
        return ()  # off, as the documents write it
    if not isinstance(value, list | tuple) or any(type(layer) is not int for layer in value):
        raise ValueError(f"{name}: expected a list of layer numbers, got {value!r}")
    if ALL in value and len(value) > 1:
        raise ValueError(f"{name}: -1 means all layers and stands alone, got {list(value)}")
    if any(layer < ALL for layer in value):
        raise ValueError(f"{name}: layers are counted from 0, got {list(value)}")
    return tuple(value)


def _strength(name: str, value: Any, layers: tuple[int, ...]) -> Strength:
    if isinstance(value, list | tuple):
        if len(value) != len(layers):
            raise ValueError(f"{name}: {len(value)} strengths for {len(layers)} layers")
        return {layer: _number(name, one) for layer, one in zip(layers, value, strict=True)}
    if isinstance(value, Mapping):
        for layer in value:
            if not str(layer).isdigit():
                raise ValueError(f"{name}: {layer!r} must be a layer's number")
            if int(layer) not in layers and ALL not in layers:
                raise ValueError(f"{name}: layer {layer} is none of its layers {list(layers)}")
        return {int(layer): _number(f"{name}.{layer}", one) for layer, one in value.items()}
    return _number(name, value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return float(value)


def _known(name: str, content: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in content:
        if key not in keys:
            raise ValueError(f"{name}: unknown field {key!r}; have: {', '.join(keys)}")


def _inside(name: str, layers: Iterable[int], count: int) -> None:
    for layer in layers:
        if layer >= count:
            raise ValueError(f"{name}: layer {layer} must be 0 to {count - 1}, or -1 for all")


def _of(strength: Strength, layer: int) -> float:
    return float(strength.get(layer, 0.0)) if isinstance(strength, Mapping) else strength
