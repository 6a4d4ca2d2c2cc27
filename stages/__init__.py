"""Erase, steer, invert or break a concept in a generator: what a script starts with, and one command per rule.

    from stages import load_backbone, load_concept, load_method

    backbone, red = load_backbone("sd-shapes"), load_concept("red")
    intervention = load_method("esd", "sd-shapes").fit(backbone, red, seed=0)
    with intervention.attach(backbone):
        images = backbone.sample(backbone.encode(["a red circle"]), seeds=[7], steps=10, guidance=3.0)

`load_run(folder)` is the intervention of a finished run. `Erasure(backbone, words, out).run()` does all of it, from the
prompts of a concept to a model card. Names are read from params/ in the project (see stages.params.project); `root=`
names another. Each function is imported when it is first asked for, so that `import stages` costs nothing.
"""

from importlib import import_module
from typing import Any

_FACE = {
    "load_backbone": ("stages.backbones", "load_backbone"),
    "load_concept": ("stages.params.concept", "load_concept"),
    "load_method": ("stages.methods", "load_method"),
    "load_run": ("stages.interventions", "load"),
    "Erasure": ("stages.door.erasing", "Erasure"),
}


def __getattr__(name: str) -> Any:
    """The function of that name, from the room where it stands; AttributeError for any other name."""
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; have: {', '.join(_FACE)}")
    module, function = _FACE[name]
    return getattr(import_module(module), function)


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACE])
