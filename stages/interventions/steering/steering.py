"""Steering: activations moved along a direction or by a map, one per site and step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from stages.control.edits import edit_activations
from stages.control.sites import Moment, Site
from stages.interventions.conditional import Conditional
from stages.interventions.steering.gates import Gate, gate_open, opening
from stages.interventions.steering.maps import FORMS, Form, renormed
from stages.reading.activations import real_tokens, token_mean

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

Mode = Literal["CONDITIONAL", "UNCONDITIONAL", "BOTH"]
Key = tuple[Site, int]
Strengths = Mapping[str, float]  # "cond" is the prompt's rows, "uncond" all others


class Steering(Conditional):
    """Maps by (site, step) with a strength for conditional and unconditional rows; strength 0 leaves rows untouched.

    Guidance multiplies what is done to the conditional rows alone by g, and to the unconditional ones by 1 - g.
    `reuse` serves steps that were not learned with the nearest earlier one; without it they are not steered.
    `renorm` keeps each token's length.
    """

    def __init__(
        self,
        form: Form,
        maps: Mapping[Key, Mapping[str, Tensor]],
        strengths: Mapping[Key, Strengths],
        *,
        renorm: bool = False,
        gate: Gate = "none",
        reuse: bool = False,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        self.form, self.renorm, self.gate, self.reuse = form, renorm, gate, reuse
        self.maps = {key: dict(tensors) for key, tensors in maps.items()}
        self.strengths = {key: dict(strengths[key]) for key in self.maps}

    def scaled(self, factor: float) -> Steering:
        """The same maps at `factor` times the strength."""
        strengths = {key: {role: s * factor for role, s in both.items()} for key, both in self.strengths.items()}
        return Steering(self.form, self.maps, strengths, renorm=self.renorm, gate=self.gate, reuse=self.reuse)

    @property
    def gated(self) -> bool:
        """Whether a gate holds it back."""
        return self.gate != "none"

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Edits every site that has a map of some strength."""
        sites = {site for (site, step), both in self.strengths.items() if any(both.values())}
        return edit_activations(backbone, dict.fromkeys(sorted(sites), partial(self.edit, backbone=backbone)))

    def edit(self, h: Tensor, at: Moment, backbone: Backbone | None = None) -> Tensor:
        """The activation with the rows and tokens of each step steered."""
        if at.site is None:
            return h
        out = h
        mask = None if backbone is None else real_tokens(backbone, h, at)
        for step, tokens in at.spans():
            key = self._key(at.site, step)
            for role, rows in at.roles.items():
                strength = self.strengths.get(key, {}).get("cond" if role == "cond" else "uncond", 0)
                if strength:
                    out = h.clone() if out is h else out
                    part = (rows,) if h.ndim == 2 else (rows, tokens)
                    out[part] = self._steered(h[part], key, strength, None if mask is None else mask[rows])
        return out

    def _key(self, site: Site, step: int) -> Key:
        if not self.reuse or (site, step) in self.maps:
            return site, step
        return site, stored_step(step, [s for where, s in self.maps if where == site])

    def _steered(self, h: Tensor, key: Key, strength: float, mask: Tensor | None) -> Tensor:
        by = {name: value.to(h.device) for name, value in self.maps[key].items()}
        wide = (h.unsqueeze(1) if h.ndim == 2 else h).float()
        pooled = token_mean(wide, mask=mask)
        if mask is not None:
            # padding must not enter the token mean of pooled forms
            wide = torch.where(mask[:, :, None], wide, pooled[:, None])
        moved = FORMS[self.form](wide, by, strength)
        if self.renorm:
            moved = renormed(moved, wide)
        if self.asked:
            self._tell(opening(self.gate, pooled, by))
        keep = gate_open(self.gate, pooled, by)[:, None, None]
        keep = keep if mask is None else keep & mask[:, :, None]
        return torch.where(keep, moved.to(h.dtype), h.unsqueeze(1) if h.ndim == 2 else h).view_as(h)

    def tensors(self) -> dict[str, Tensor]:
        """Every map's tensors under `<site>/<step>/`."""
        return {f"{s}/{t}/{name}": value for (s, t), by in self.maps.items() for name, value in by.items()}

    def broken(self) -> list[str]:
        """As for all interventions, but a support may be without bounds."""
        tensors = self.tensors()
        return [name for name in super().broken() if not name.endswith("/support") or tensors[name].isnan().any()]

    def spec(self) -> dict[str, Any]:
        """Form, gate and strengths."""
        strengths = {f"{site}/{step}": both for (site, step), both in self.strengths.items()}
        options = {"renorm": self.renorm, "gate": self.gate, "reuse": self.reuse}
        return {"form": self.form, **options, "strengths": strengths}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Steering:
        """Maps and strengths by their keys."""
        maps: dict[Key, dict[str, Tensor]] = {_parse(key): {} for key in spec["strengths"]}
        for path, value in tensors.items():
            key, _, name = path.rpartition("/")
            maps[_parse(key)][name] = value
        strengths = {_parse(key): both for key, both in spec["strengths"].items()}
        return cls(spec["form"], maps, strengths, renorm=spec["renorm"], gate=spec["gate"], reuse=spec["reuse"])


def stored_step(step: int, stored: Iterable[int]) -> int:
    """The stored step that serves `step`: the last one not after it, or the first."""
    steps = sorted(stored)
    return max((s for s in steps if s <= step), default=steps[0] if steps else step)


def role_strengths(mode: Mode, cond: float, uncond: float) -> dict[str, float]:
    """Strengths of both halves of guidance, the one that the mode leaves out at 0."""
    return {"cond": cond if mode != "UNCONDITIONAL" else 0.0, "uncond": uncond if mode != "CONDITIONAL" else 0.0}


def decayed(step: int, steps: int, least: float = 0.1) -> float:
    """A strength that falls linearly over the steps to `least`; the decay that CASteer's Sana version offers."""
    return max(1 - step / steps, least)


def _parse(key: str) -> Key:
    site, _, step = key.rpartition("/")
    return Site.parse(site), int(step)
