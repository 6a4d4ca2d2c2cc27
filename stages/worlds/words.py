"""The vocabulary of the world of shapes and its word-level tokenizer, in the format that diffusers pipelines load."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<bos>", "<eos>"
LENGTH = 12  # tokens, begin and end included

WORDS = (
    *("a", "an", "the", "of", "on", "in", "with", "and", "without", "no", "is", "it"),
    *("photo", "picture", "image", "drawing", "video", "clip", "background", "dark", "light", "plain"),
    *("shape", "object", "thing", "color", "colored", "small", "large"),
    *("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white", "black"),
    *("circle", "square", "triangle", "cross", "ring", "diamond"),
    *("scarlet", "emerald", "azure", "golden"),
    *("disc", "box", "pyramid", "plus"),
    *("moving", "left", "right", "up", "down", "still"),
)
SYNONYMS = {
    **{"red": "scarlet", "green": "emerald", "blue": "azure", "yellow": "golden"},
    **{"circle": "disc", "square": "box", "triangle": "pyramid", "cross": "plus"},
}


def vocabulary() -> dict[str, int]:
    """Returns word -> id, 64 in all; `<eos>` has the highest id, since CLIP's text model pools there by default."""
    spare = tuple(f"<spare{i}>" for i in range(64 - 4 - len(WORDS)))
    return {word: i for i, word in enumerate((PAD, UNKNOWN, BEGIN, *WORDS, *spare, END))}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer: lower case, one token per word, `<bos> ... <eos>`, 12 tokens at most, 64 entries."""
    return word_level(vocabulary(), LENGTH)


def word_level(ids: dict[str, int], length: int) -> PreTrainedTokenizerFast:
    """Returns a tokenizer of these words and signs: lower case, `<bos> ... <eos>`, `length` tokens at most."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast  # a slow import that jobs of the judge do not need

    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, ids[BEGIN]), (END, ids[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=length,
        **{"pad_token": PAD, "unk_token": UNKNOWN, "bos_token": BEGIN, "eos_token": END},
    )
