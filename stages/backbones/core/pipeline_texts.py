"""The text encoders of a diffusers pipeline, which may be dropped and read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from stages.backbones.core.onednn import multiply_by_onednn
from stages.backbones.core.settings import Settings
from stages.backbones.loading.checkpoints import load_part
from stages.backbones.text.texts import Texts


class PipelineTexts(Texts):
    """Encoders are attributes of the pipeline, because its own encoding of prompts looks for them there."""

    def __init__(
        self,
        name: str,
        pipeline: Any,
        parts: Iterable[str],
        *,
        length: int | None = None,
        starts: Mapping[str, int] | None = None,
        place: torch.device,
    ) -> None:
        parts = tuple(parts)
        self.classes = {part: type(found) for part in parts if (found := getattr(pipeline, part)) is not None}
        starts = {part: start for part, start in (starts or {}).items() if part in self.classes}
        super().__init__(name, length=length, long=parts[-1] if parts else "", starts=starts)
        self.pipeline, self.place = pipeline, place  # place: the device that encoders wait on between prompts
        self.source: Settings | None = None  # the checkpoint that dropped encoders are read from again

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        """The pipeline's tokenizers by encoder."""
        return {part: getattr(self.pipeline, part.replace("text_encoder", "tokenizer")) for part in self.classes}

    def loaded(self) -> dict[str, nn.Module]:
        """The encoders that are in memory."""
        parts = {part: getattr(self.pipeline, part) for part in self.classes}
        return {part: encoder for part, encoder in parts.items() if encoder is not None}

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders by name, read again if they were dropped.

        FileNotFoundError or ValueError if their files are gone; see `load_part`.
        """
        for part, cls in self.classes.items():
            if getattr(self.pipeline, part) is None and self.source is not None:
                module = load_part(cls, part, self.source).eval().requires_grad_(False)
                multiply_by_onednn(module)
                setattr(self.pipeline, part, module.to(self.place))
        return self.loaded()

    def drop(self) -> None:
        """Drops the encoders if they can be read again."""
        if self.source is not None:
            for part in self.classes:
                setattr(self.pipeline, part, None)
