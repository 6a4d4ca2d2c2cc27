"""Semi-permeable membranes (arXiv 2312.16145): low-rank changes, each as strong as the prompt means its concept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, linear, pad

from stages.control.edits import edit_activations
from stages.control.sites import Edit, Moment, Site, Tap
from stages.control.state import Condition
from stages.interventions.conditional import Conditional
from stages.interventions.lowrank import LowRank

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

Measure = Literal["both", "cosine", "tokens"]
Open = Callable[[Moment], Tensor]  # how far each membrane is open (B, M) in a call of the network


@dataclass(frozen=True)
class Permeability:
    """gate = (max(0, s - floor) / (1 - floor))^power of a prompt's likeness s to a concept's name, arXiv 2312.16145.

    s is the larger of two: the cosine of both texts' features, all tokens as one vector, and the share of the name's
    tokens that are in the prompt.
    """

    measure: Measure = "both"  # or one of the two alone
    floor: float = 0.0  # likeness that closes the gate; the paper has none
    power: float = 1.0  # the released code scales both factors by the gate, which is 2

    def of(self, cosines: Tensor, shares: Tensor) -> Tensor:
        """Gates (B,) in 0..1 from cosines (B, K) and shares of tokens (B, K) to K names of one concept."""
        parts = {"cosine": [cosines], "tokens": [shares], "both": [cosines, shares]}[self.measure]
        likeness = torch.cat(parts, 1).amax(1)
        return ((likeness - self.floor) / (1 - self.floor)).clamp(0, 1) ** self.power


class Membrane(Conditional):
    """W x + sum_m gate_m(prompt) B_m (A_m x): one low-rank change for each concept, its scale another in every row.

    All rows of a guided call, the unconditional ones too, have the gates of the prompt that they are drawn for. Rows
    whose gates are 0 come out bit for bit as the network has them. `fixed` is the same with one scale, for peft.
    """

    def __init__(
        self,
        changes: Sequence[LowRank],
        names: Sequence[Sequence[str]],
        features: Sequence[Tensor],
        permeability: Permeability,
    ) -> None:
        super().__init__()
        self.changes, self.names = nn.ModuleList(changes), [tuple(own) for own in names]
        self.features = nn.ParameterList(nn.Parameter(own, requires_grad=False) for own in features)
        self.permeability = permeability
        self._known: tuple[tuple[str, ...], list[Tensor]] | None = None

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        changes: Sequence[LowRank],
        names: Sequence[Sequence[str]],
        permeability: Permeability,
    ) -> Membrane:
        """A membrane for each concept's change, opened by prompts like its names, of which each has one at least."""
        with torch.no_grad():
            features = [text_features(backbone.encode(own)) for own in names]
        return cls([change.folded() for change in changes], names, features, permeability)

    @property
    def keywords(self) -> tuple[str, ...]:
        """The names of all concepts."""
        return tuple(name for own in self.names for name in own)

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Adds to every layer what the gates let through."""
        self.to(backbone.device)
        inputs: dict[str, Tensor] = {}
        opening = self._opening(backbone)
        edits: dict[Site | Tap, Edit] = {}
        for layer, down, up in self._stacked():
            edits[Tap(layer, "input")] = partial(_keep, inputs, layer)
            edits[Tap(layer)] = self._edit(partial(inputs.pop, layer), down, up, opening)
        with edit_activations(backbone, edits):
            yield

    def gate(self, backbone: Backbone, condition: Condition) -> Tensor:
        """How far each of M membranes is open for each prompt, (B, M); gradients reach the text's features."""
        features, gates = text_features(condition), []
        shares = self._shares(backbone, condition.prompts)
        for own, share in zip(self.features, shares, strict=True):
            mine, theirs = _as_long(features, own.to(features.device))
            cosines = cosine_similarity(mine[:, None], theirs[None], dim=2)
            gates.append(self.permeability.of(cosines, share.to(cosines)))
        return torch.stack(gates, 1)

    def fixed(self, gate: float = 1.0) -> LowRank:
        """One low-rank change that is all of them at that gate, whatever the prompt."""
        stacked = self._stacked()
        down, up = ({layer: factors[i].detach() for layer, *factors in stacked} for i in (0, 1))
        part = self._change(0).part
        return LowRank(down, {layer: gate * value for layer, value in up.items()}, part=part)

    def tensors(self) -> dict[str, Tensor]:
        """Each concept's factors under `<index>/`, in diffusers' names, and the features of its names."""
        named = {f"{i}/features": value for i, value in enumerate(self.features)}
        for i in range(len(self.names)):
            named |= {f"{i}/{name}": value for name, value in self._change(i).tensors().items()}
        return named

    def spec(self) -> dict[str, Any]:
        """Names, gate, and each change's own."""
        changes = [self._change(i).spec() for i in range(len(self.names))]
        return {"names": [list(own) for own in self.names], **asdict(self.permeability), "changes": changes}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Membrane:
        """Changes that do not train."""
        changes, features = [], []
        for i, one in enumerate(spec["changes"]):
            own = {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{i}/")}
            features.append(own.pop("features"))
            changes.append(LowRank.restore(own, one))
        permeability = Permeability(spec["measure"], spec["floor"], spec["power"])
        return cls(changes, spec["names"], features, permeability)

    def _shares(self, backbone: Backbone, prompts: Sequence[str]) -> list[Tensor]:
        """For each concept the shares (B, K) of its K names' tokens that are in each prompt."""
        written = tuple(backbone.attached.write_out(prompt).text for prompt in prompts)
        if self._known is None or self._known[0] != written:
            said = [set(ids) for ids in backbone.texts.tokenize(written)]
            rows = [[[_share(backbone, name, ids) for name in own] for ids in said] for own in self.names]
            self._known = written, [torch.tensor(share) for share in rows]
        return self._known[1]

    def _change(self, index: int) -> LowRank:
        change = self.changes[index]
        assert isinstance(change, LowRank)
        return change

    def _stacked(self) -> list[tuple[str, Tensor, Tensor]]:
        """For each layer all A (R, in) and all B (out, R), scaled, the ranks of all concepts one after another."""
        changes = [self._change(i) for i in range(len(self.names))]
        factors = [dict(zip(one.layers, zip(one.down, one.up, strict=True), strict=True)) for one in changes]
        stacked = []
        for layer in changes[0].layers:
            downs, ups = zip(*(own[layer] for own in factors), strict=True)
            scaled = [up * change.scaling for up, change in zip(ups, changes, strict=True)]
            stacked.append((layer, torch.cat(downs), torch.cat(scaled, 1)))
        return stacked

    def _opening(self, backbone: Backbone) -> Open:
        """How far each membrane is open in a call; computed once for a run's prompts unless gradients need it anew."""
        last: list[tuple[Condition, Tensor]] = []

        def opening(at: Moment) -> Tensor:
            condition = at.condition
            if condition is None:
                raise ValueError(f"{backbone.name} was called without prompts, which a membrane's gate reads")
            if last and last[0][0] is condition:
                return last[0][1]
            gates = self.gate(backbone, condition)
            self._tell(gates.amax(1))
            if not gates.requires_grad:
                last[:] = [(condition, gates)]
            return gates

        return opening

    def _edit(self, take: Callable[[], Tensor], down: Tensor, up: Tensor, opening: Open) -> Edit:
        ranks = torch.tensor([self._change(i).rank for i in range(len(self.names))], device=down.device)

        def edit(output: Tensor, at: Moment) -> Tensor:
            given, gates = take(), opening(at)
            scales = of_rows(gates, len(output), at).repeat_interleave(ranks, 1)
            scales = scales.view(len(output), *[1] * (output.ndim - 2), -1)
            open_rows = (scales != 0).any(-1, keepdim=True)
            if not open_rows.any():
                return output
            with torch.autocast(output.device.type, enabled=False):
                added = linear(scales * linear(given.float(), down.float()), up.float())
            return torch.where(open_rows, output + added.to(output.dtype), output)

        return edit


def of_rows(gates: Tensor, rows: int, at: Moment) -> Tensor:
    """The gates (B, M) of prompts for the rows (rows, M) of a call, whatever role a row plays.

    ValueError if these are no multiple of the prompts, as in a layer that all of them share.
    """
    every = torch.cat([gates] * max(1, len(at.roles)))
    if rows % len(every):
        raise ValueError(f"a layer of {rows} rows has none for each of {len(every)} prompts and roles")
    return every.repeat_interleave(rows // len(every), 0)


def text_features(condition: Condition) -> Tensor:
    """All tokens of a prompt as one vector, (B, L D) in float32, with zeros for those that the network does not read.

    ValueError for classes, which are no text.
    """
    if "embeds" not in condition.tensors:
        raise ValueError("a gate that reads prompts needs a backbone that does, and this one knows classes; choose esd")
    embeds, mask = condition.tensors["embeds"].float(), condition.tensors.get("mask")
    if mask is not None:
        embeds = embeds * mask[..., None]
    return embeds.flatten(1)


def gated_layers(layers: Sequence[str]) -> list[str]:
    """Of linear layers those that work on tokens, not on the modulation of a norm."""
    return [layer for layer in layers if not any(part.startswith("norm") for part in layer.split("."))]


def _as_long(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two (B, N), the shorter one with zeros behind."""
    length = max(first.shape[1], second.shape[1])
    padded = [pad(value, (0, length - value.shape[1])) for value in (first, second)]
    return padded[0], padded[1]


def _share(backbone: Backbone, name: str, said: set[int]) -> float:
    """The share of a name's tokens that are said; at the beginning of a text or inside it, whichever is more."""
    special, *forms = map(set, backbone.texts.tokenize(["", name, f" {name}"]))
    return max((len((form & said) - special) / len(form - special) for form in forms if form - special), default=0.0)


def _keep(inputs: dict[str, Tensor], layer: str, value: Tensor, at: Moment) -> Tensor:
    inputs[layer] = value
    return value
