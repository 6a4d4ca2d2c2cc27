"""What a preset does while it is fitted: the steps it asks for, prompts, states, the space of its loss, what it trains.

Everything costly is cut down but the number of steps, which is only asked for: of a training one step is taken.
"""

import dataclasses
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch

from stages.interventions.base import Intervention, holder
from stages.methods import load_method
from stages.methods.shared import base
from stages.params.concept import Concept
from stages.training.settings import Training
from tests import ROOT
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

RED = Concept("red", ("a red circle", "a red square"), ("a circle", "a square"), ("a green ball",), words=("red",))
TWINS = {
    "flux-dev": "flux-dev",
    "flux-schnell": "flux-schnell",
    "sd3-medium": "sd3",
    "cogvideox-5b": "cogvideox-5b",
    "sd14": "unet",
}
FEW = {
    "samples": 2,
    "batch": 2,
    "accumulate": 1,
    "seeds": 2,
    "sampler_steps": 2,
    "inner": 1,
    "slots": 2,
    "nearest": 2,
    "centres": 2,
    "rounds": 1,
    "watched": 1,
    "hidden": 4,
    "side": None,
    "vocabulary": f"{ROOT}/tests/methods/vocabulary.txt",
    "pictures": 1,
    "keep_every": 0,
    "log_every": 1000,
}


base_partial, base_noised = base.partial, base.noised


@dataclass
class Watched:
    """What was seen."""

    trainings: list[Training] = field(default_factory=list)
    prompts: set[str] = field(default_factory=set)  # kinds of prompts that were encoded or sampled
    states: set[str] = field(default_factory=set)  # where the states of the loss came from
    losses: set[str] = field(default_factory=set)  # what the loss compares
    trained: set[str] = field(default_factory=set)  # names of the tensors that a training moves
    intervention: Intervention | None = None

    @property
    def steps(self) -> int:
        """Of all optimizers together, those of one training if there are several alike; 0 without a training."""
        return max((training.steps for training in self.trainings), default=0)


def twin(backbone: str):
    """The smallest network of the checkpoint's real structure."""
    if backbone.startswith("infinity"):
        return tiny_infinity.make(batch=2)
    return FAMILIES[TWINS[backbone]].make(steps=2)


def cut(method, **changes):
    """The method with small numbers for what costs time; its steps stay."""
    have = {each.name for each in dataclasses.fields(method)}
    if "{concept}" in str(getattr(method, "data", "")):  # our table of the concept; its own few prompts are told apart
        own = {"data": f"{ROOT}/data/yellow_cross"} if method.data == "data/{concept}" else {"data": "", "limit": 0}
        changes = own | changes
    return dataclasses.replace(method, **{key: value for key, value in (FEW | changes).items() if key in have})


def watch(name: str, backbone: str, **changes) -> Watched:
    """Fits the preset on its backbone's twin."""
    seen, network = Watched(), twin(backbone)
    method = cut(load_method(name, backbone), **changes)
    with pytest.MonkeyPatch.context() as patch:
        watch_network(network, seen, patch)
        watch_training(sys.modules[type(method).__module__], network, seen, patch)
        seen.intervention = method.fit(network, RED, seed=0)
    return seen


def kind(prompt: str) -> str:
    """Which of the concept's prompts a text is."""
    for name in ("prompts", "neutral", "retain", "words"):
        if prompt in getattr(RED, name):
            return name
    return "other" if prompt else "empty"


def watch_network(network, seen: Watched, patch: pytest.MonkeyPatch) -> None:
    """Notes every prompt that the network is asked for."""
    encode, gather = network.encode, network.gather

    def noting_encode(prompts):
        seen.prompts |= set(map(kind, prompts))
        return encode(prompts)

    def noting_gather(prompts, *args, **options):
        seen.prompts |= set(map(kind, prompts))
        return gather(prompts, *args, **options)

    patch.setattr(network, "encode", noting_encode)
    patch.setattr(network, "gather", noting_gather)


def watch_training(module, network, seen: Watched, patch: pytest.MonkeyPatch) -> None:
    """Takes one step instead of all, and notes what its loss reads."""

    def one_step(loss, parameters, training, **options):
        parameters = list(parameters)
        seen.trainings.append(training)
        change = holder(parameters)
        if change is not None:
            ids = set(map(id, parameters))
            seen.trained |= {name for name, value in change.named_parameters() if id(value) in ids}
        with reading(network, module, seen, change):
            loss(0, torch.Generator().manual_seed(0)).backward()

    if hasattr(module, "minimize"):
        patch.setattr(module, "minimize", one_step)


@contextmanager
def reading(network, module, seen: Watched, change: Intervention | None):
    """Notes where states come from and what is compared, while a loss is computed."""
    predicted, opened, holding = [], [], type(change)
    of_change = getattr(holding, "attach", None)

    @contextmanager
    def attach(self, backbone):
        with of_change(self, backbone):
            opened.append(self)
            yield
            opened.pop()

    def predict(state, condition, *, of=network.predict):
        predicted.append(of(state, condition))
        return predicted[-1]

    def distance(prediction, target, *, of=network.distance):
        value, own = of(prediction, target), any(prediction is each for each in predicted)
        if value.requires_grad:  # a term of weight 0 has no gradient
            value.register_hook(lambda g: seen.losses.add("prediction" if own else "elsewhere") if g.any() else None)
        return value

    def draw(*args, of=network.draw):
        seen.states.add("pool")
        return of(*args)

    of_finals = getattr(network, "finals", None)  # which a family of bits lacks

    def finals(*args):
        seen.states.add("finals")
        return of_finals(*args)

    def partial(backbone, *args, of=base.partial):
        seen.states.add("student" if opened else "fresh")
        return of(backbone, *args)

    def noised(*args, of=base.noised):
        state = of(*args)
        seen.states.add("noised")
        return state

    with pytest.MonkeyPatch.context() as patch:
        for name, spy in {"predict": predict, "distance": distance, "draw": draw, "finals": finals}.items():
            if hasattr(network, name):
                patch.setattr(network, name, spy)
        if change is not None:
            patch.setattr(holding, "attach", attach)
        for where, name, spy in ((base, "partial", partial), (base, "noised", noised), (module, "noised", noised)):
            if getattr(where, name, None) in (base_partial, base_noised):
                patch.setattr(where, name, spy)
        yield
