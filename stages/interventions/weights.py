"""New values for some of the network's parameters: ESD, concept ablation, EAP, UCE, the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stages.control.edits import swap_parameters
from stages.interventions.base import Intervention

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


class Weights(Intervention):
    """Parameters by name, swapped in whole; kept in float32, used in the backbone's own dtype and on its device.

    If other `Weights` are attached to the same parameter, the two changes add: current + (value - own).
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = list(values)
        self.values = nn.ParameterList(
            value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
            for value in values.values()
        )

    @classmethod
    def copy(cls, backbone: Backbone, names: Iterable[str]) -> Weights:
        """Trainable copies of the named parameters, equal to the backbone's own."""
        own = {name: backbone.attached.originals.get(name, backbone.addresses.parameter(name)) for name in names}
        return cls({name: nn.Parameter(value.detach().float().clone()) for name, value in own.items()})

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """Names with their values."""
        return zip(self.names, self.values, strict=True)

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Swaps the parameters in."""
        with swap_parameters(backbone, {name: _beside(backbone, name, value) for name, value in self.items()}):
            yield

    def tensors(self) -> dict[str, Tensor]:
        """The values under their parameter names."""
        return dict(self.items())

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Weights:
        """Values that do not train."""
        return cls(tensors)

    def difference(self, backbone: Backbone) -> float:
        """The largest change of any value, for records and tests."""
        return max(float((value - backbone.addresses.parameter(name)).abs().max()) for name, value in self.items())


def _beside(backbone: Backbone, name: str, value: Tensor) -> Tensor:
    """The value as the backbone works with it, added to what is changed there already."""
    now, own = backbone.addresses.parameter(name), backbone.attached.originals.get(name)
    if own is not None:
        value = now.float() + (value.to(now.device) - own.to(now.device).float())
    return value.to(backbone.device, now.dtype)  # its block may wait on the CPU


@torch.no_grad()
def fold(weights: Weights, backbone: Backbone) -> None:
    """Writes the values into a backbone's networks for good, to save it as an ordinary checkpoint."""
    for name, value in weights.items():
        backbone.addresses.parameter(name).copy_(value)
