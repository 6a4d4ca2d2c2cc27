"""A concept: the prompts that show it, the same prompts without it, and prompts that must not change."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stages.params import construct, load_params


@dataclass(frozen=True)
class Concept:
    """What is erased, steered or learned, from params/concepts/<name>.yaml.

    `prompts[i]` shows the concept and `neutral[i]` is the same prompt without it; `retain` is unrelated.
    `dataset` and `target` say which prompts measure it and which label counts as seeing it; `aim`, whether that is to
    become rare (`erase`) or common (`learn`).
    """

    name: str
    prompts: tuple[str, ...]
    neutral: tuple[str, ...]
    retain: tuple[str, ...]
    dataset: str = ""
    target: dict[str, Any] = field(default_factory=dict)
    sensitive: bool = False
    aim: Literal["erase", "learn"] = "erase"

    def __post_init__(self) -> None:
        for name in ("prompts", "neutral", "retain"):
            if not getattr(self, name):
                raise ValueError(f"concept {self.name}: {name} must not be empty")
        if len(self.neutral) not in (1, len(self.prompts)):
            raise ValueError(
                f"concept {self.name}: neutral must have one prompt, or one for each of the "
                f"{len(self.prompts)} concept prompts, got {len(self.neutral)}"
            )

    def pairs(self) -> list[tuple[str, str]]:
        """Each concept prompt with its neutral twin."""
        neutral = self.neutral * len(self.prompts) if len(self.neutral) == 1 else self.neutral
        return list(zip(self.prompts, neutral, strict=True))


def load_concept(name: str, root: Path | str = "params") -> Concept:
    """The concept of params/concepts/<name>.yaml; ValueError names the file and key that is wrong."""
    content = load_params("concepts", name, root)
    if content.get("name", name) != name:
        raise ValueError(f"params/concepts/{name}.yaml: name must be {name!r}, got {content['name']!r}")
    return construct(Concept, {"name": name} | content, f"params/concepts/{name}.yaml")
