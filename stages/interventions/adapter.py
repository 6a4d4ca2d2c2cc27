"""Residual adapters at attention outputs: Receler's eraser, arXiv 2311.17717, and T2VUnlearning's, 2505.17550."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from stages.control.edits import edit_activations
from stages.control.sites import Edit, Moment, Site
from stages.interventions.conditional import Conditional
from stages.seeds import Purpose, generator

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


class Bottleneck(nn.Module):
    """up(GELU(down(x))), float32 whatever comes in; zero at first, because `up` is."""

    def __init__(self, down: nn.Linear, up: nn.Linear) -> None:
        super().__init__()
        self.down, self.up = down, up

    @classmethod
    def fresh(cls, width: int, rank: int, generator: torch.Generator | None = None) -> Bottleneck:
        """`down` uniform as torch initialises linear layers, `up` zero."""
        down, up = (nn.utils.skip_init(nn.Linear, *shape) for shape in ((width, rank), (rank, width)))
        with torch.no_grad():
            for value in down.parameters():
                value.uniform_(-(width**-0.5), width**-0.5, generator=generator)
            for value in up.parameters():
                value.zero_()
        return cls(down, up)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to float32 (..., width), outside any autocast."""
        with torch.autocast(x.device.type, enabled=False):
            return self.up(gelu(self.down(x.float())))


class Adapter(Conditional):
    """Adds a bottleneck's output to the activation at each site; fresh, it changes no bit.

    Weights and arithmetic are float32 over a base of any dtype. `strength` scales what is added. Its gate is
    what it has learned: how large what it adds is beside the activation.
    """

    def __init__(self, layers: Mapping[Site, Bottleneck], strength: float = 1.0) -> None:
        super().__init__()
        self.places, self.strength = list(layers), strength
        self.bottlenecks = tuple(layers.values())
        self.layers = nn.ModuleList(self.bottlenecks)
        self._trace: dict[Site, Tensor] | None = None

    @classmethod
    def fresh(cls, backbone: Backbone, sites: Sequence[Site], rank: int, seed: int) -> Adapter:
        """Trainable adapters of one rank at the sites, as wide as the activations there."""
        owner = generator(Purpose.WEIGHTS, seed)
        layers = {site: Bottleneck.fresh(width(backbone, site), rank, owner) for site in sites}
        return cls(layers).to(backbone.device)

    def items(self) -> Iterator[tuple[Site, Bottleneck]]:
        """Sites with their layers."""
        return zip(self.places, self.bottlenecks, strict=True)

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Adds at every site; does nothing at strength 0."""
        if self.strength == 0:
            return nullcontext()
        if self.bottlenecks and self.bottlenecks[0].up.weight.device != backbone.device:
            self.to(backbone.device)
        return edit_activations(backbone, {site: self._edit(site, layer) for site, layer in self.items()})

    @contextmanager
    def traced(self) -> Iterator[dict[Site, Tensor]]:
        """Collects what is added at each site, float32 (B, N, C), while open; a later recomputation adds nothing."""
        before, self._trace = self._trace, {}
        try:
            yield self._trace
        finally:
            self._trace = before

    def tensors(self) -> dict[str, Tensor]:
        """All weights under `<site>/down.weight` and so on."""
        return {f"{site}/{name}": value for site, layer in self.items() for name, value in layer.state_dict().items()}

    def spec(self) -> dict[str, Any]:
        """The strength and the sites in order."""
        return {"strength": self.strength, "sites": [str(site) for site in self.places]}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Adapter:
        """Layers that do not train; ValueError names a weight that is missing."""
        layers = {}
        for name in spec["sites"]:
            try:
                down, up = tensors[f"{name}/down.weight"], tensors[f"{name}/up.weight"]
                parts = {part: tensors[f"{name}/{part}"] for part in ("down.bias", "up.bias")}
            except KeyError as error:
                raise ValueError(f"an adapter's weight is missing: {error.args[0]}") from None
            layer = Bottleneck.fresh(down.shape[1], down.shape[0])
            layer.load_state_dict({"down.weight": down, "up.weight": up, **parts})
            layers[Site.parse(name)] = layer
        return cls(layers, spec["strength"]).requires_grad_(False)

    def _edit(self, site: Site, layer: Bottleneck) -> Edit:
        def edit(activation: Tensor, at: Moment) -> Tensor:
            added = self.strength * layer(activation)
            if self._trace is not None:
                self._trace[site] = added
            if self.asked:
                self._tell(share_added(activation, added))
            return activation + added.to(activation.dtype)

        return edit


def share_added(activation: Tensor, added: Tensor) -> Tensor:
    """|added| / (|activation| + |added|) of each row (B, ...), in 0..1."""
    own, new = (part.float().flatten(1).norm(dim=1) for part in (activation, added))
    return new / (own + new).clamp_min(1e-12)


def width(backbone: Backbone, site: Site) -> int:
    """Channels of an attention's or feed-forward's output: what its last linear layer returns."""
    module = backbone.net.get_submodule(backbone.addresses.tap(site).module)
    linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not linears:
        raise ValueError(f"{backbone.name}: {site} has no linear layer, so the width of its output is not known")
    return linears[-1].out_features
