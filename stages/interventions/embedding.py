"""Learned vectors in the place of words: in the text encoder's input (textual inversion) or in its output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.control.edits import edit_activations, edit_condition
from stages.control.sites import Moment, Tap
from stages.control.words import Prompt, Span, Tokens, tokenize, written_out
from stages.interventions.base import Intervention
from stages.store.files import replacing
from stages.store.finite import check_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from stages.backbones.core.base import Backbone, Condition

Mode = Literal["input", "output"]
POOLED = "pooled"  # the part that stands for the summary of a prompt beside its tokens


class Embedding(Intervention):
    """An alias for prompts, written out as its initialiser before tokenization, whose tokens get learned vectors.

    `vectors` holds (n, D) per text encoder: n rows for the n tokens of the initialiser, or one row for all of them.
    `input` replaces token embeddings, so that the encoder reads them; `output` the encoded tokens, and where there is a
    pooled text (1, D) is added to that. The vectors belong to one tokenizer and one encoder, whose `identity` they
    carry; attaching to others is refused.
    """

    def __init__(
        self,
        alias: str,
        initialiser: str,
        vectors: Mapping[str, Tensor],
        *,
        mode: Mode,
        template: str,
        identity: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.alias, self.initialiser, self.mode, self.template = alias, initialiser, mode, template
        self.identity = dict(identity)
        self.parts = list(vectors)
        self.vectors = nn.ParameterList(
            value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
            for value in vectors.values()
        )
        self._known: WeakSet[Backbone] = WeakSet()

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Writes the alias out and replaces its tokens; ValueError for another tokenizer or encoder."""
        self._check(backbone)
        with ExitStack() as stack:
            stack.enter_context(edit_condition(backbone, words={self.alias: self.initialiser}))
            for part, vectors in zip(self.parts, self.vectors, strict=True):
                if self.mode == "input":
                    edit = partial(self._replace_input, backbone, part, vectors)
                    stack.enter_context(edit_activations(backbone, {embedding_tap(backbone, part): edit}))
                else:
                    change = self._shift_pooled if part == POOLED else self._replace_output
                    stack.enter_context(edit_condition(backbone, partial(change, backbone, part, vectors)))
            yield

    def _replace_input(self, backbone: Backbone, part: str, vectors: Tensor, h: Tensor, at: Moment) -> Tensor:
        return replaced(h, vectors, self.spans(backbone, part, at.prompts, h.shape[1]))

    def _replace_output(self, backbone: Backbone, part: str, vectors: Tensor, condition: Condition) -> Condition:
        embeds = condition.tensors["embeds"]
        at = backbone.texts.segment(part, embeds.shape[1])
        prompts = [backbone.attached.write_out(prompt) for prompt in condition.prompts]
        spans = self.spans(backbone, part, prompts, at.length)
        spans = [(row, start + at.begin, end + at.begin) for row, start, end in spans]
        return condition.with_tensors(embeds=replaced(embeds, vectors, spans))

    def _shift_pooled(self, backbone: Backbone, part: str, vectors: Tensor, condition: Condition) -> Condition:
        pooled = condition.tensors[part]
        said = [self.alias in backbone.attached.write_out(prompt).places for prompt in condition.prompts]
        rows = torch.tensor(said, device=pooled.device)[:, None]
        return condition.with_tensors(**{part: torch.where(rows, pooled + vectors.to(pooled), pooled)})

    def spans(
        self, backbone: Backbone, part: str, prompts: Sequence[Prompt], length: int
    ) -> list[tuple[int, int, int]]:
        """(row, start, end) of every token span that the alias stands for; ValueError when one is cut off."""
        found: list[tuple[int, int, int]] = []
        for row, prompt in enumerate(prompts):
            if places := prompt.places.get(self.alias):
                tokens = tokenize(backbone.texts.tokenizers[part], prompt.text, length)
                found += [(row, *tokens.span(place)) for place in places]
        return found

    def _check(self, backbone: Backbone) -> None:
        if backbone in self._known:
            return
        parts = [part for part in self.parts if part != POOLED]
        if missing := [part for part in parts if part not in backbone.texts.tokenizers]:
            raise ValueError(f"{self.alias} has vectors for {', '.join(missing)}, which {backbone.name} is without")
        for name, own in identity(backbone, self.parts).items():
            if own != self.identity.get(name):
                raise ValueError(
                    f"{self.alias} was learned with another {name} than {backbone.name} has "
                    f"({self.identity.get(name)}, here {own}): its vectors mean nothing there"
                )
        self._known.add(backbone)

    def tensors(self) -> dict[str, Tensor]:
        """The vectors by encoder."""
        return dict(zip(self.parts, self.vectors, strict=True))

    def spec(self) -> dict[str, Any]:
        """Everything that says what the vectors mean."""
        return {
            "alias": self.alias,
            "initialiser": self.initialiser,
            "mode": self.mode,
            "template": self.template,
            "identity": self.identity,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Embedding:
        """Vectors that do not train."""
        spec = dict(spec)
        return cls(spec.pop("alias"), spec.pop("initialiser"), tensors, **spec)

    def export(self, folder: Path, backbone: Backbone | None = None) -> list[Path]:
        """Writes learned_embeds.safetensors per text encoder, which diffusers' load_textual_inversion reads.

        A vector that all tokens of the initialiser share is written once for each of them, since a placeholder of
        diffusers is as many tokens as its file has rows. How many there are, the tokenizers of `backbone` say (by
        default of one that it was attached to). ValueError for output vectors, and if no backbone is known;
        FloatingPointError for vectors that are not finite.
        """
        if self.mode != "input":
            raise ValueError("only input vectors are token embeddings; output vectors have no place in a tokenizer")
        check_tensors(f"the vectors of {self.alias}", self.tensors())
        backbone = backbone or next(iter(self._known), None)
        rows = {part: self._repeated(backbone, part, vectors) for part, vectors in self.tensors().items()}
        paths = []
        for part, vectors in rows.items():
            paths.append(Path(folder) / f"learned_embeds{part.removeprefix('text_encoder')}.safetensors")
            with replacing(paths[-1]) as temporary:
                save_file({self.alias: vectors.detach().cpu().contiguous().clone()}, temporary, {"format": "pt"})
        return paths

    def _repeated(self, backbone: Backbone | None, part: str, vectors: Tensor) -> Tensor:
        """Rows (n, D), one for each of the initialiser's n tokens."""
        if len(vectors) > 1:
            return vectors
        if backbone is None:
            raise ValueError(f"{self.alias} has one vector for all its tokens: export(folder, backbone) counts them")
        self._check(backbone)
        _, (start, end) = initial_tokens(backbone, part, self.template, self.initialiser)
        return vectors.expand(end - start, -1)


def replaced(h: Tensor, vectors: Tensor, spans: Sequence[tuple[int, int, int]]) -> Tensor:
    """Rows (B, L, D) with each span's tokens replaced by the vectors (n, D), or by the one vector there is."""
    if not spans:
        return h
    out = h.clone()
    for row, start, end in spans:
        if len(vectors) not in (1, end - start):
            raise ValueError(f"{len(vectors)} vectors cannot stand for {end - start} tokens")
        out[row, start:end] = vectors.to(h)
    return out


def embedding_tap(backbone: Backbone, part: str) -> Tap:
    """Where a text encoder's token embeddings come out: of T5's two homes of that table, the stack's own is called."""
    encoder: PreTrainedModel = backbone.texts.encoders()[part]
    table = encoder.get_input_embeddings().weight
    homes = [name for name, module in encoder.named_modules() if getattr(module, "weight", None) is table]
    return Tap(f"{part}.{homes[-1]}")


def parts_of(backbone: Backbone, mode: Mode) -> list[str]:
    """What has vectors of its own: every text encoder, or those whose tokens the network reads and the pooled text."""
    if mode == "input":
        return list(backbone.texts.tokenizers)
    return [*backbone.texts.starts, *(part for part in backbone.encode([""]).tensors if part == POOLED)]


def identity(backbone: Backbone, parts: Sequence[str]) -> dict[str, str]:
    """Digests of the tokenizer and of the encoder of each part; the pooled text is of all encoders."""
    from stages.backbones.text.cache import fingerprint

    found = {}
    for part in backbone.texts.tokenizers if POOLED in parts else parts:
        rules = json.loads(backbone.texts.tokenizers[part].backend_tokenizer.to_str())
        kept = {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")}  # change with use
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        found[part.replace("text_encoder", "tokenizer")] = digest[:16]
        found[part] = fingerprint({part: backbone.texts.encoders()[part]})
    return found


def initial_tokens(backbone: Backbone, part: str, template: str, words: str) -> tuple[Tokens, Span]:
    """A template with words in it as a text encoder's tokens, and which of these stand for the words."""
    tokenizer, prompt = backbone.texts.tokenizers[part], written_out(template, {"{}": words})
    tokens = tokenize(tokenizer, prompt.text, min(tokenizer.model_max_length, 512))
    return tokens, tokens.span(prompt.places["{}"][0])


@torch.no_grad()
def initial_vectors(backbone: Backbone, part: str, template: str, words: str, mode: Mode) -> Tensor:
    """What training starts from: the rows (n, D) of the words' own tokens in a template; zeros for the pooled text."""
    if part == POOLED:
        return torch.zeros_like(backbone.encode([""]).tensors[part], dtype=torch.float32)
    if part not in backbone.texts.tokenizers or (mode == "output" and not backbone.texts.aligned):
        raise ValueError(f"{backbone.name} has no tokens that stand for the rows of its text embedding; use mode input")
    tokens, (start, end) = initial_tokens(backbone, part, template, words)
    if mode == "output":
        first = backbone.texts.starts[part]
        return backbone.encode([tokens.text]).tensors["embeds"][0, first + start : first + end].float().clone()
    encoder: PreTrainedModel = backbone.texts.encoders()[part]
    embed = encoder.get_input_embeddings()  # a table, which Gemma multiplies by a scale
    return embed(torch.tensor(tokens.ids[start:end], device=embed.weight.device)).float().clone()
