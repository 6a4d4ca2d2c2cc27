"""Where a backbone's tensors are: activations by site, weights by kind of layer, parameters by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from torch import Tensor, nn

from stages.control.sites import Kind, Part, Site, Stream, Tap, encoder_sites, lookup, select

TEXT = "text_encoder"  # how the names of text encoders and of their parameters begin
PROJECTIONS: Mapping[str, tuple[str, ...]] = {  # diffusers' names; the second of each is the text stream's
    "query": ("to_q", "add_q_proj"),
    "key": ("to_k", "add_k_proj"),
    "value": ("to_v", "add_v_proj"),
    "out": ("to_out", "to_add_out"),
}


class TextEncoders(Protocol):
    """The text encoders of a backbone, which may have to be read from disk first."""

    @property
    def names(self) -> Sequence[str]:
        """Their names: text_encoder, text_encoder_2 ..."""

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders by name."""


class Addresses:
    """The address book of one network and its text encoders.

    `projections` maps query, key, value and out to the names of their layers; `readers` are the weights that read the
    text if no cross-attention does; `extra` are modules outside the sites that belong to a kind of layer.
    """

    def __init__(
        self,
        name: str,
        net: nn.Module,
        sites: Mapping[Site, Tap],
        texts: TextEncoders,
        *,
        projections: Mapping[str, tuple[str, ...]] = PROJECTIONS,
        readers: Sequence[str] = (),
        extra: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name, self.net, self.sites, self.texts = name, net, sites, texts
        self.projections, self._readers, self._extra = projections, tuple(readers), dict(extra or {})

    @property
    def text_sites(self) -> Mapping[Site, Tap]:
        """The blocks of the text encoders, numbered through: `3.block.out@encoder`."""
        return encoder_sites(self.texts.encoders())

    def tap(self, site: Site) -> Tap:
        """Where `site` is in the network, or in its text encoders; KeyError says which sites there are."""
        return lookup(self.text_sites if site.stream == "encoder" else self.sites, site, self.name)

    def select(self, *kinds: str, part: Part = "out", stream: Stream | None = None) -> list[Site]:
        """The sites of the first of `kinds` that the network has, in order of execution; KeyError if it has none."""
        return select(self.sites, *cast(tuple[Kind, ...], kinds), part=part, stream=stream)

    def weights(self, *kinds: str, projections: Sequence[str] | None = None) -> list[str]:
        """Names of the parameters of the first of `kinds` that exists, only of some projections if asked.

        KeyError if there is no such layer or projection.
        """
        leaves = None if projections is None else {leaf for p in projections for leaf in self.projections[p]}
        sites = self.select(*kinds)
        names: dict[str, None] = {}
        for path in [*self._extra.get(sites[0].kind, ()), *(self.tap(site).module for site in sites)]:
            for name, _ in self.net.get_submodule(path).named_parameters():
                if leaves is None or name.split(".")[0] in leaves:
                    names[f"{path}.{name}"] = None
        return list(names)

    def readers(self) -> list[str]:
        """Weights whose input is the encoded text: the keys and values of cross-attention, or the text's way in.

        ValueError for a network that knows classes only.
        """
        if self._readers:
            return list(self._readers)
        if not self.texts.names:
            raise ValueError(f"{self.name} knows classes, and none of its weights reads a text")
        return [n for n in self.weights("cross_attn", projections=("key", "value")) if n.endswith("weight")]

    def locate(self, name: str) -> tuple[nn.Module, str]:
        """The module that a parameter's or tap's name is relative to, and the name there.

        KeyError for a text encoder that the backbone does not have.
        """
        if not name.startswith(TEXT):
            return self.net, name
        (part, _, path), encoders = name.partition("."), self.texts.encoders()
        if part not in encoders:
            raise KeyError(f"{self.name} has no {part}; it has {', '.join(encoders) or 'no text encoder'}")
        return encoders[part], path

    def parameter(self, name: str) -> Tensor:
        """The tensor in use under that name, of the network or (prefix `text_encoder.`) of a text encoder.

        KeyError if there is none.
        """
        root, path = self.locate(name)
        module, _, leaf = path.rpartition(".")
        try:
            owner = root.get_submodule(module)
            value = getattr(owner, "base_layer", owner)._parameters[leaf]  # peft keeps the layer inside its own
        except (AttributeError, KeyError):
            value = None
        if value is None:
            raise KeyError(f"{self.name} has no parameter {name!r}")
        return value
