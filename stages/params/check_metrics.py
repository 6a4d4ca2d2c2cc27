"""What a file of a metric may say, and whose pictures it can judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.params.check import (
    check_fields,
    checked,
    tree_of,
)
from stages.params.concept import Concept, values
from stages.params.load import load_params, names, suggestion
from stages.params.source import class_fields, constant, defines

METRIC = "stages.metrics.base.Metric"


def check_metric(name: str, root: Path | str = "params") -> dict[str, Any]:
    """A metric's content; ValueError for anything in its file that does not exist."""
    where, content = f"params/metrics/{name}.yaml", checked("metrics", name, root)
    check_fields(content, content["class"], where, root)
    return content


def check_metric_for(metric: str, concept: Concept, backbone: str, root: Path | str = "params") -> None:
    """Raises a ValueError when a metric cannot judge a concept's pictures by a backbone.

    Metrics say what they can in class constants (stages/metrics/base.py): WORLDS, LABELS, CHOICES, NEEDED.
    """
    where, content = f"params/metrics/{metric}.yaml", load_params("metrics", metric, root)
    tree, about = tree_of(root), load_params("backbones", backbone, root)
    worlds, labels = (constant(content["class"], name, tree) for name in ("WORLDS", "LABELS"))
    if worlds and about.get("world") not in worlds:
        others = [name for name in names("metrics", root) if not _worlds_of_metric(name, root)]
        drawn = f"draws the world {about['world']}" if about.get("world") else "is a finished checkpoint"
        raise ValueError(
            f"{metric} judges small worlds alone ({', '.join(worlds)}); {backbone} {drawn}; for it: {', '.join(others)}"
        )
    for key, what in (constant(content["class"], "NEEDED", tree) or {}).items():
        if not any(content.get(one) for one in key.split(" or ")):
            raise ValueError(f"{where}: {key} is empty; name there {what}, or copy the file and name it in the copy")
    labels = labels and labels.get(about.get("world"))
    choices = _choices(content, where, tree)
    for label, value in [(label, value) for label, wanted in concept.target.items() for value in values(wanted)]:
        if labels and label not in labels:
            raise ValueError(
                f"{where}: it cannot judge the label {label!r}, which the target of "
                f"params/concepts/{concept.name}.yaml asks for{suggestion(label, labels)}"
            )
        if choices is not None and value not in choices.get(label, ()):
            have = "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in choices.items()) or "none"
            raise ValueError(
                f"{where}: {constant(content['class'], 'CHOICES', tree)}: no {label} {value!r}, which the target of "
                f"params/concepts/{concept.name}.yaml asks for; have {have}"
            )


def sees(metric: str, root: Path | str = "params") -> bool:
    """Whether a metric says of each sample whether it shows the concept."""
    return defines(load_params("metrics", metric, root)["class"], "seen", METRIC, tree_of(root))


def _choices(content: Mapping[str, Any], where: str, tree: Path) -> Mapping[str, Sequence[str]] | None:
    """What a metric can tell apart, by label; None if it does not say."""
    key = constant(content["class"], "CHOICES", tree)
    if not key:
        return None
    known = class_fields(content["class"], where, tree)
    given = content.get(key, known[key].default) or {}
    if isinstance(given, Mapping):
        return given
    return {content.get("label", known["label"].default): given}


def _worlds_of_metric(name: str, root: Path | str) -> Sequence[str] | None:
    """The worlds that a metric is bound to; a broken file counts as bound, so that it is not proposed."""
    try:
        return constant(load_params("metrics", name, root)["class"], "WORLDS", tree_of(root))
    except (ValueError, KeyError):
        return ("unreadable",)
