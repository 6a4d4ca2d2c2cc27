"""Intervention: the interface, its files (safetensors and JSON, never pickle), the identity and the composition."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.store.files import replacing, write_json

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

PACKAGE = "stages.interventions."
ALIASES = {  # classes as older files call them
    "mask.Mask": "masks.mask.Mask",
    "steering.Steering": "steering.steering.Steering",
    "safety.SafetyGuidance": "sld.SafetyGuidance",
    "filtering.Filter": "safree.Filter",
    "resample.Resample": "flowedit.Resample",
    "guidance.NegativePrompt": "guidance.PromptGuidance",
}


ALIVE: WeakSet[Intervention] = WeakSet()  # those that anything refers to


class Intervention(nn.Module, ABC):
    """A change to a backbone: tensors and a spec. Closing `attach` leaves the backbone bit for bit as it was.

    with load_method("uce", backbone.name).fit(backbone, concept, seed=0).attach(backbone):
        pictures = backbone.sample(backbone.encode(["a red circle"]), seeds=[0], steps=20, guidance=3.0)
    """

    def __init__(self) -> None:
        super().__init__()
        ALIVE.add(self)

    @abstractmethod
    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Applies the change while the context is open."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is saved as numbers, by name; of any shapes."""
        return {}

    def broken(self) -> list[str]:
        """The names of tensors that hold a number which is not finite."""
        return [name for name, value in self.tensors().items() if not torch.isfinite(value).all()]

    def spec(self) -> dict[str, Any]:
        """Everything else that is saved, primitives only."""
        return {}

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Intervention:
        """The intervention that `tensors()` and `spec()` came from."""


def holder(parameters: Sequence[Tensor]) -> Intervention | None:
    """The intervention that has some of these parameters, the largest if one is part of another; None if none has."""
    wanted = set(map(id, parameters))
    have = [each for each in ALIVE if not wanted.isdisjoint(map(id, each.parameters()))]
    return max(have, key=lambda each: len(list(each.modules())), default=None)


class Identity(Intervention):
    """Changes nothing, so that the unedited backbone is an ordinary row."""

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Does nothing."""
        return nullcontext()

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Identity:
        """The identity."""
        return cls()


class Stack(Intervention):
    """Several interventions attached together, the first one first."""

    def __init__(self, *parts: Intervention) -> None:
        super().__init__()
        self.members, self.parts = parts, nn.ModuleList(parts)

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Attaches every part in order."""
        with ExitStack() as stack:
            for part in self.members:
                stack.enter_context(part.attach(backbone))
            yield

    def tensors(self) -> dict[str, Tensor]:
        """The parts' tensors under `<index>/`."""
        return {f"{i}/{name}": value for i, part in enumerate(self.members) for name, value in part.tensors().items()}

    def broken(self) -> list[str]:
        """The broken tensors of every part, as each part sees it."""
        return [f"{i}/{name}" for i, part in enumerate(self.members) for name in part.broken()]

    def spec(self) -> dict[str, Any]:
        """The parts' classes and specs."""
        return {"parts": [{"class": class_path(part), "spec": part.spec()} for part in self.members]}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Stack:
        """Restores each part from its own share."""
        parts = []
        for i, part in enumerate(spec["parts"]):
            share = {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{i}/")}
            parts.append(find_class(part["class"]).restore(share, part["spec"]))
        return cls(*parts)


def save(intervention: Intervention, folder: Path) -> None:
    """Writes intervention.safetensors and intervention.json; the same intervention gives the same bytes.

    FloatingPointError names tensors that are not finite, and nothing is written.
    """
    if broken := intervention.broken():
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise FloatingPointError(f"numbers that are not finite in {', '.join(broken[:3])}{more}: nothing is saved")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in intervention.tensors().items()}
    with replacing(folder / "intervention.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_json(folder / "intervention.json", {"class": class_path(intervention), "spec": intervention.spec()})


def load(folder: Path | str) -> Intervention:
    """Reads what `save` wrote; FileNotFoundError or ValueError names the file that is missing or damaged.

    ValueError names the folder if both are whole and do not belong together.
    """
    folder = Path(folder)
    header, weights = folder / "intervention.json", folder / "intervention.safetensors"
    for path in (header, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; train the method first")
    try:
        content = json.loads(header.read_text())
        cls, spec = find_class(content["class"]), content["spec"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{header}: not an intervention's header: {error}") from None
    tensors = read_tensors(weights)
    try:
        return cls.restore(tensors, spec)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        what = f"{header.name} and {weights.name} make no {cls.__name__}"
        raise ValueError(f"{folder}: {what} ({type(error).__name__}: {error})") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file by name; ValueError for a truncated file or a pickle in its place."""
    try:
        with safe_open(path, "pt") as file:
            # copies are aligned as allocations are; a file's own alignment may change a product's last bit
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None


def class_path(intervention: Intervention) -> str:
    """The class as saved, relative to this package."""
    cls = type(intervention)
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix(PACKAGE)


def find_class(path: str) -> type[Intervention]:
    """The intervention class of a saved path, today's or an older one; ValueError unless this package has it."""
    module, _, name = ALIASES.get(path, path).rpartition(".")
    try:
        cls = getattr(importlib.import_module(PACKAGE + module), name)
    except (ImportError, AttributeError):
        cls = None
    if not (isinstance(cls, type) and issubclass(cls, Intervention)):
        raise ValueError(f"no intervention class {path!r} in {PACKAGE[:-1]}")
    return cls
