"""Whatever reads params/ and data/: names checked, keys checked, values checked, every error one line."""

from stages.params.layers import attack_params, kind_of, method_params
from stages.params.load import (
    KINDS,
    build,
    canonical,
    check_name,
    construct,
    load_params,
    metric_params,
    names,
    resolve_class,
    suggestion,
)

__all__ = [
    "KINDS",
    "attack_params",
    "build",
    "canonical",
    "check_name",
    "construct",
    "kind_of",
    "load_params",
    "method_params",
    "metric_params",
    "names",
    "resolve_class",
    "suggestion",
]
