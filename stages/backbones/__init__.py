"""Frozen generators: each turns a condition and a state into a prediction and lists its sites."""

from stages.backbones.core.base import Backbone
from stages.backbones.core.settings import Settings
from stages.backbones.loading.by_name import load_backbone, load_settings
from stages.control.state import Condition, State

__all__ = ["Backbone", "Condition", "Settings", "State", "load_backbone", "load_settings"]
