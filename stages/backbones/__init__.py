"""Frozen generators: each turns a condition and a state into a prediction and lists its sites."""

from stages.backbones.base import Backbone, Condition, Settings, State, load_backbone

__all__ = ["Backbone", "Condition", "Settings", "State", "load_backbone"]
