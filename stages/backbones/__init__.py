"""Frozen generators: each turns a condition and a state into a prediction and lists its sites."""

from stages.backbones.base import Backbone
from stages.backbones.loading import load_backbone, load_settings
from stages.backbones.settings import Settings
from stages.backbones.state import Condition, State

__all__ = ["Backbone", "Condition", "Settings", "State", "load_backbone", "load_settings"]
