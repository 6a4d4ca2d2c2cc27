"""Whatever reads params/ and data/: names checked, keys checked, values checked, every error one line."""

from stages.params.load import (
    KINDS,
    build,
    canonical,
    check_name,
    construct,
    load_params,
    method_params,
    metric_params,
    names,
    resolve_class,
    suggestion,
)

__all__ = [
    "KINDS",
    "build",
    "canonical",
    "check_name",
    "construct",
    "load_params",
    "method_params",
    "metric_params",
    "names",
    "resolve_class",
    "suggestion",
]
