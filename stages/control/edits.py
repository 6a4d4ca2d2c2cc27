"""The five context managers through which everything in this project touches a model.

Each registers through an ExitStack, so a failure half way still detaches; when one closes, the backbone is bit for bit
what it was. They nest, and the order of nesting is the order of application.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from stages.control.addresses import TEXT, Addresses
from stages.control.attached import Asked, Attached, GuidanceEdit, Predictions, Rewrite
from stages.control.sites import Edit, Site, Tap
from stages.control.state import Condition, Sampler

__all__ = [
    "Editable",
    "Predictions",
    "edit_activations",
    "edit_condition",
    "edit_guidance",
    "edit_samples",
    "free_role",
    "swap_parameters",
]


class Editable(Protocol):
    """A generator that edits can be attached to: a network with an address book and a registry of edits."""

    name: str
    net: nn.Module
    attached: Attached
    addresses: Addresses


@contextmanager
def edit_condition(
    backbone: Editable,
    fn: Callable[[Condition], Condition] | None = None,
    words: Mapping[str, str] | None = None,
    rewrite: Rewrite | None = None,
) -> Iterator[None]:
    """Passes every encoded condition through `fn` while open (textual inversion).

    `words` maps aliases to the words that take their place before tokenization. `rewrite` changes prompts before that;
    conditions carry what it makes of them.
    """
    with ExitStack() as stack:
        if rewrite is not None:
            stack.enter_context(_appended(backbone.attached.rewrites, rewrite))
        if words:
            stack.enter_context(_appended(backbone.attached.words, words))
        if fn is not None:
            stack.enter_context(_appended(backbone.attached.condition_edits, fn))
        yield


@contextmanager
def swap_parameters(backbone: Editable, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts `values` in place of the named parameters while open (ESD, concept ablation, EAP).

    Installs the value tensors themselves (no copies) in every module that shares the parameter, so gradients reach
    them. On exit the original objects return; until then `backbone.attached.originals` has them.

    KeyError for an unknown name; ValueError for a value of another shape, and for two values of one parameter that has
    two names.
    """
    originals = {name: backbone.addresses.parameter(name) for name in values}
    _check_values(originals, values)
    with ExitStack() as stack:
        homes = _homes(backbone, values)
        for name, value in values.items():
            original = originals[name]
            for module, home in homes[id(original)]:
                stack.callback(module._parameters.__setitem__, home, cast(nn.Parameter, original))
                module._parameters[home] = cast(nn.Parameter, value)
            if name not in backbone.attached.originals:
                backbone.attached.originals[name] = original
                stack.callback(backbone.attached.originals.pop, name)
        if any(name.startswith(TEXT) for name in values):
            stack.enter_context(_appended(backbone.attached.text_swaps, values))
        yield


@contextmanager
def edit_activations(backbone: Editable, edits: Mapping[Site | Tap, Edit]) -> Iterator[None]:
    """Passes the activation at each site through its edit while open (steering, masks, adapters).

    An edit gets the activation (B, L, D), or (B, D) of a norm's modulation, and a `Moment`; it returns a new tensor of
    that shape. A Tap in place of a site reaches a module that the site table does not list; its edit sees a moment
    without a site. KeyError for a site or module that the backbone does not have.

        halves = dict.fromkeys(backbone.select("cross_attn"), lambda h, at: 0.5 * h)
        with edit_activations(backbone, halves):
            images = backbone.sample(backbone.encode(["a red circle"]), seeds=[0], steps=20, guidance=3.0)
    """
    with ExitStack() as stack:
        for place, edit in edits.items():
            site, tap = (None, place) if isinstance(place, Tap) else (place, backbone.addresses.tap(place))
            root, path = backbone.addresses.locate(tap.module)
            try:
                module = root.get_submodule(path)
            except AttributeError:
                raise KeyError(f"{backbone.name} has no module {tap.module!r}") from None
            stack.callback(_hook(module, tap, site, edit, backbone.attached).remove)
            if root is not backbone.net:
                stack.enter_context(_appended(backbone.attached.text_swaps, tap))
        yield


@contextmanager
def edit_guidance(backbone: Editable, fn: GuidanceEdit, extra: Mapping[str, Asked] | None = None) -> Iterator[None]:
    """Passes the predictions (B, ...) of all roles through `fn` before they are combined (SLD, SAFREE).

    `extra` maps further roles to the prompts whose predictions `fn` wants beside `uncond` and `cond`, or to functions
    from a run's condition to theirs. ValueError if another edit has that role; see `free_role`.
    """
    for role in extra or {}:
        if free_role(backbone, role) != role:
            raise ValueError(f"another edit of guidance on {backbone.name} has the role {role!r}")
    with _appended(backbone.attached.guidance_edits, (fn, dict(extra or {}))):
        yield


def free_role(backbone: Editable, name: str) -> str:
    """The role of that name, or else the first of `name 2`, `name 3` ... that no edit of guidance asks for yet."""
    taken = {"cond", "uncond"}.union(*(extra for _, extra in backbone.attached.guidance_edits))
    numbered = (f"{name} {number}" for number in count(2))
    return next(role for role in chain([name], numbered) if role not in taken)


@contextmanager
def edit_samples(backbone: Editable, fn: Callable[[Sampler], Sampler]) -> Iterator[None]:
    """Wraps the sampler itself while open (FlowEdit)."""
    with _appended(backbone.attached.sample_edits, fn):
        yield


def _hook(module: nn.Module, tap: Tap, site: Site | None, edit: Edit, attached: Attached) -> Any:
    def apply(value: Any) -> Any:
        tensor = value if tap.item is None else value[tap.item]
        start, stop = tap.tokens
        if tap.spatial:
            tokens = edit(tensor.flatten(2).transpose(1, 2), attached.moment(site))
            edited = tokens.transpose(1, 2).reshape(tensor.shape).contiguous()
        elif (start, stop) == (0, None):
            edited = edit(tensor, attached.moment(site))
        else:
            part = edit(tensor[:, start:stop], attached.moment(site))
            edited = tensor.clone()
            edited[:, start:stop] = part
        if tap.item is None:
            return edited
        return (*value[: tap.item], edited, *value[tap.item + 1 :])

    if tap.when == "output":
        return module.register_forward_hook(lambda _module, _args, output: apply(output))
    if tap.item is not None:
        return module.register_forward_pre_hook(lambda _module, args: apply(args))
    return module.register_forward_pre_hook(lambda _module, args: (apply(args[0]), *args[1:]))


def _check_values(originals: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        if originals[name].shape != value.shape:
            raise ValueError(f"parameter {name} has shape {tuple(originals[name].shape)}, got {tuple(value.shape)}")
    first: dict[int, str] = {}
    for name, value in values.items():
        other = first.setdefault(id(originals[name]), name)
        if value is not values[other] and not torch.equal(value.to(values[other]), values[other]):
            raise ValueError(f"{other} and {name} are two names of one parameter, got two values")


def _homes(backbone: Editable, names: Iterable[str]) -> dict[int, list[tuple[nn.Module, str]]]:
    """Every module that holds a parameter, by the parameter's identity, in the parts that the names are of."""
    homes: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
    for root in {id(root): root for root, _ in map(backbone.addresses.locate, names)}.values():
        for module in root.modules():
            for leaf, value in module._parameters.items():
                homes[id(value)].append((module, leaf))
    return homes


@contextmanager
def _appended(items: list[Any], item: Any) -> Iterator[None]:
    items.append(item)
    try:
        yield
    finally:
        items.pop(next(i for i in reversed(range(len(items))) if items[i] is item))
