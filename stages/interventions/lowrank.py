"""LoRA (arXiv 2106.09685) through peft: low-rank changes of linear layers, in the formats that others load."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.interventions.base import Intervention
from stages.store.files import replacing

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
_names = count()


class LowRank(Intervention):
    """W x + scaling B (A x) for named linear layers; A (rank, in) and B (out, rank) are float32, B = 0 the identity.

    `injected` puts peft's layers in, switched off, and takes them out when it closes; inside it `attach` is a switch.
    The saved file is what diffusers' `load_lora_weights` reads; `export` writes what `PeftModel` reads.
    """

    def __init__(
        self, down: Mapping[str, Tensor], up: Mapping[str, Tensor], *, part: str, scaling: float = 1.0
    ) -> None:
        super().__init__()
        self.layers, self.part, self.scaling = list(down), part, scaling
        self.down = nn.ParameterList(_parameter(down[layer]) for layer in self.layers)
        self.up = nn.ParameterList(_parameter(up[layer]) for layer in self.layers)
        self._name = f"lora_{next(_names)}"
        self._inside: dict[int, list[LoraLayer]] = {}

    @classmethod
    def create(
        cls,
        backbone: Backbone,
        layers: Sequence[str],
        rank: int,
        generator: torch.Generator,
        *,
        scaling: float = 1.0,
        spread: float = 0.0,
    ) -> LowRank:
        """Trainable factors: A uniform as peft draws it, B normal with standard deviation `spread`.

        ValueError for a layer without a weight.
        """
        down, up = {}, {}
        for layer in layers:
            weight = backbone.net.get_submodule(layer).weight
            if not isinstance(weight, Tensor):
                raise ValueError(f"{layer} has no weight that a LoRA could change")
            outputs, inputs = weight.shape
            bound = inputs**-0.5  # of a Kaiming uniform draw with a = sqrt(5)
            down[layer] = nn.Parameter(bound * (2 * torch.rand(rank, inputs, generator=generator) - 1))
            up[layer] = nn.Parameter(spread * torch.randn(outputs, rank, generator=generator))
        return cls(down, up, part=backbone.NET, scaling=scaling).to(backbone.device)

    @property
    def rank(self) -> int:
        """The inner width."""
        return len(self.down[0])

    @contextmanager
    def injected(self, backbone: Backbone) -> Iterator[None]:
        """Puts the layers in, switched off; what was there comes back as the same objects."""
        self.to(backbone.device)
        net = backbone.net
        with ExitStack() as stack:
            stack.callback(_restore_config, net, net.__dict__.get("peft_config"))
            owners = [net.get_submodule(layer) for layer in self.layers]
            stack.callback(_take_out, net, self.layers, self._name)
            _put_in(net, self.layers, self._name, self.rank, self.scaling)
            found: list[LoraLayer] = [net.get_submodule(layer) for layer in self.layers]
            for layer, owner, down, up in zip(found, owners, self.down, self.up, strict=True):
                layer.lora_A[self._name].weight, layer.lora_B[self._name].weight = down, up
                if layer is not owner:
                    _swap_hooks(layer, owner)
            self._inside[id(backbone)] = found
            stack.callback(self._inside.pop, id(backbone))
            yield

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Switches the layers on, injecting them first where `injected` is not open."""
        with ExitStack() as stack:
            if id(backbone) not in self._inside:
                stack.enter_context(self.injected(backbone))
            for layer in self._inside[id(backbone)]:
                stack.callback(setattr, layer, "_active_adapter", layer._active_adapter)
                layer._active_adapter = [*layer._active_adapter, self._name]
            yield

    def folded(self) -> LowRank:
        """The same change with scaling 1 and nothing to train, as it is saved."""
        up = {layer: value.detach() * self.scaling for layer, value in zip(self.layers, self.up, strict=True)}
        down = {layer: value.detach() for layer, value in zip(self.layers, self.down, strict=True)}
        return LowRank(down, up, part=self.part)

    def tensors(self) -> dict[str, Tensor]:
        """`<part>.<layer>.lora_A.weight` and `lora_B.weight`, diffusers' names."""
        named: dict[str, Tensor] = {}
        for layer, down, up in zip(self.layers, self.down, self.up, strict=True):
            named |= {f"{self.part}.{layer}.lora_A.weight": down, f"{self.part}.{layer}.lora_B.weight": up}
        return named

    def spec(self) -> dict[str, Any]:
        """Part, rank and scaling."""
        return {"part": self.part, "rank": self.rank, "scaling": self.scaling}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> LowRank:
        """Factors by their names, in the order of the names."""
        factors: dict[str, dict[str, Tensor]] = {"lora_A": {}, "lora_B": {}}
        for name in sorted(tensors):
            layer, which, _ = name.removeprefix(f"{spec['part']}.").rsplit(".", 2)
            factors[which][layer] = tensors[name]
        return cls(factors["lora_A"], factors["lora_B"], part=spec["part"], scaling=spec["scaling"])

    def export(self, folder: Path) -> None:
        """Writes adapter_config.json and adapter_model.safetensors, which PeftModel.from_pretrained reads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _config(self.layers, self.rank, self.scaling).save_pretrained(folder)
        named = {name.removeprefix(f"{self.part}."): value for name, value in self.tensors().items()}
        content = {f"base_model.model.{name}": v.detach().cpu().contiguous().clone() for name, v in named.items()}
        with replacing(folder / "adapter_model.safetensors") as temporary:
            save_file(content, temporary, {"format": "pt"})


def linear_layers(backbone: Backbone, blocks: Sequence[int]) -> list[str]:
    """Every linear layer inside the blocks of these numbers; ValueError for a number that there is not."""
    found = {site.block: backbone.addresses.tap(site).module for site in backbone.select("block", stream="image")}
    if missing := sorted(set(blocks) - set(found)):
        raise ValueError(f"{backbone.name} has no block {missing[0]}; it has 0 to {max(found)}")
    names: dict[str, None] = {}
    for block in blocks:
        for name, module in backbone.net.get_submodule(found[block]).named_modules(prefix=found[block]):
            if isinstance(module, nn.Linear):
                names[name] = None
    return list(names)


def _parameter(value: Tensor) -> nn.Parameter:
    return value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)


def _config(layers: Sequence[str], rank: int, scaling: float) -> LoraConfig:
    exactly = "|".join(map(re.escape, layers))  # a list would also match by the ends of names
    return LoraConfig(r=rank, lora_alpha=rank * scaling, target_modules=exactly, lora_dropout=0.0, bias="none")


def _put_in(net: nn.Module, layers: Sequence[str], name: str, rank: int, scaling: float) -> None:
    training = {parameter: parameter.requires_grad for parameter in net.parameters()}
    active = {part: part._active_adapter for part in net.modules() if isinstance(part, LoraLayer)}
    with torch.random.fork_rng(devices=[]):  # peft draws weights that are replaced at once
        inject_adapter_in_model(_config(layers, rank, scaling), net, name)
    for part in net.modules():
        if isinstance(part, LoraLayer):
            part._active_adapter = active.get(part, [])
    for parameter, trains in training.items():
        parameter.requires_grad_(trains)


def _take_out(net: nn.Module, layers: Sequence[str], name: str) -> None:
    for path in layers:
        layer = net.get_submodule(path)
        if not isinstance(layer, LoraLayer) or name not in layer.lora_A:
            continue
        others = [other for other in layer.lora_A if other != name]
        if others:
            active = layer._active_adapter
            layer.delete_adapter(name)
            layer._active_adapter = active
            continue
        _swap_hooks(layer.base_layer, layer)
        owner, _, leaf = path.rpartition(".")
        setattr(net.get_submodule(owner), leaf, layer.base_layer)


def _swap_hooks(one: nn.Module, other: nn.Module) -> None:
    """Swaps two modules' hook dicts, so that hooks on the layer see its LoRA's output; handles stay valid, since they
    hold the dict."""
    for kind in HOOKS:
        mine, theirs = getattr(one, kind), getattr(other, kind)
        setattr(one, kind, theirs)
        setattr(other, kind, mine)


def _restore_config(net: nn.Module, config: Any) -> None:
    if config is None:
        net.__dict__.pop("peft_config", None)
    else:
        net.peft_config = config
