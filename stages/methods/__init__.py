"""One dataclass per file, named after its paper; its fields are the hyperparameters, its one verb is fit."""

from stages.methods.base import Method, fit_weights, load_method

__all__ = ["Method", "fit_weights", "load_method"]
