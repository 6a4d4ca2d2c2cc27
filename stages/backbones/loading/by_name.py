"""Backbones by the name of their file in params/backbones."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from stages.backbones.core.settings import Settings
from stages.params import construct, load_params, resolve_class
from stages.params.project import located

if TYPE_CHECKING:
    from stages.backbones.core.family import Family

log = logging.getLogger(__name__)


def load_settings(name: str, root: Path | str = "params") -> tuple[type[Family], Settings]:
    """The class and settings of params/backbones/<name>.yaml."""
    content = load_params("backbones", name, root)
    where = f"{root}/backbones/{name}.yaml"
    if "class" not in content:
        raise ValueError(f"{where}: the key 'class' is missing")
    fields = {key: value for key, value in content.items() if key != "class"}
    settings = construct(Settings, fields, where)
    if located(settings.path).exists():  # a folder; a repository's id is none
        settings = dataclasses.replace(settings, path=str(located(settings.path)))
    return resolve_class(content["class"], where), settings


def load_backbone(name: str, root: Path | str = "params", device: str | None = None) -> Family:
    """The backbone of params/backbones/<name>.yaml with its weights; on the GPU if there is one, and says so."""
    cls, settings = load_settings(name, root)
    return cls.load(name, settings, choose_device(name, device))


def choose_device(name: str, device: str | None = None) -> str:
    """The device asked for, else the GPU if there is one; says so where it is the CPU."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        log.info("%s runs on the CPU", name)
    return device
