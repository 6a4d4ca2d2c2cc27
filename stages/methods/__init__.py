"""One dataclass per file, named after its paper; its fields are the hyperparameters, its one verb is fit."""

from stages.methods.shared.base import Method, load_method

__all__ = ["Method", "load_method"]
