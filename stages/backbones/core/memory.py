"""Fitting a large backbone on a small GPU without changing a number: checkpoints, offloading, tiles and slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stages.control.attached import Attached

COPIED = ("_parameters", "_modules", "_forward_hooks", "_forward_pre_hooks")  # dicts that attaching changes in place


def enable_checkpointing(net: Any, attached: Attached) -> None:
    """Recomputes blocks of `net` in the backward pass as they were in the forward pass, even if edits were detached.

    An ordinary checkpoint would run the block again with the original weights and without hooks: the gradient of an
    intervention whose context has closed would be silently wrong.
    """

    def call(module: nn.Module, *args: Any) -> Any:
        then = _Then(attached, module)
        return checkpoint(module, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), then.again()))

    net.enable_gradient_checkpointing(call)


class _Then:
    """A module's parameters, children, hooks and flags as they are at construction, and the moment."""

    def __init__(self, attached: Attached, module: nn.Module) -> None:
        self.attached, self.moment = attached, attached.moment(None)
        self.parts = [(part, vars(part) | {key: copy(vars(part)[key]) for key in COPIED}) for part in module.modules()]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Puts it all back while open."""
        now = [dict(vars(part)) for part, _ in self.parts]
        try:
            for part, kept in self.parts:
                _become(part, kept)
            then = self.moment
            with self.attached.at(
                then.step, then.roles, lengths=then.lengths, prompts=then.prompts, condition=then.condition
            ):
                yield
        finally:
            for (part, _), before in zip(self.parts, now, strict=True):
                _become(part, before)


def _become(module: nn.Module, attributes: dict[str, Any]) -> None:
    vars(module).clear()
    vars(module).update(attributes)


@contextmanager
def at_work(
    *modules: nn.Module, device: torch.device, waiting: torch.device | None, made: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Has the modules on `device` while open, and on `waiting` afterwards, unless that is None.

    They stay on `device` if any tensor in `made` requires a gradient: its backward pass runs there.
    """
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        differentiated = any(value.requires_grad for value in (made or {}).values())
        for module in modules:
            if waiting is not None and not differentiated:
                module.to(waiting)


def stream_blocks(net: nn.Module, device: torch.device, waiting: torch.device) -> None:
    """Leaves the blocks of a network on `waiting` and brings each to `device` for its turn, for sampling.

    While gradients are recorded a block stays on `device`, where its backward pass runs.
    """
    for child in net.children():
        if not isinstance(child, nn.ModuleList):
            child.to(device)
            continue
        for block in child.to(waiting):
            block.register_forward_pre_hook(_mover(device))
            block.register_forward_hook(_mover(waiting, unless_training=True))
    for values in (net._parameters, net._buffers):
        for value in values.values():
            if value is not None:
                value.data = value.data.to(device)


def _mover(device: torch.device, unless_training: bool = False) -> Callable[..., None]:
    def move(module: nn.Module, *_: Any) -> None:
        if not (unless_training and torch.is_grad_enabled()):
            module.to(device)

    return move


def divide(vae: Any, tiling: bool, slicing: bool) -> None:
    """Has the autoencoder work on tiles of a picture, on one picture at a time, or both."""
    if tiling:
        vae.enable_tiling()
    if slicing:
        vae.enable_slicing()
