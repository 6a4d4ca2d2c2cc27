"""Methods whose settings are those of their files, but for what costs time."""

import dataclasses

from stages.methods import load_method
from stages.params.names import variant

SMALL = {
    "steps": 2,
    "batch": 2,
    "samples": 4,
    "seeds": 2,
    "sampler_steps": 2,
    "inner": 1,
    "slots": 2,
    "nearest": 2,
    "rounds": 1,
    "rank": 2,
    "watched": 1,
    "hidden": 4,
    "limit": 2,
    "pictures": 1,
    "passes": 2,
    "window": 2,
    "peace": 0,
    "retain_batch": 2,
}


def cut_down(method, **values):
    """The method with small numbers in the fields that it has; `values` go before SMALL."""
    have = {field.name for field in dataclasses.fields(method)}
    return dataclasses.replace(method, **{key: value for key, value in (SMALL | values).items() if key in have})


def small(name, backbone="tiny"):
    """The method of that file, cut down; so is the one that it builds on, if it names one."""
    method = load_method(name, backbone)
    if not (other := getattr(method, "of", "")):
        return cut_down(method)
    have = {field.name for field in dataclasses.fields(load_method(other, backbone))}
    few = {key: 2 for key in ("steps", "seeds", "batch", "sampler_steps", "samples") if key in have}
    return cut_down(method, of=variant(other, few) if few else other)
