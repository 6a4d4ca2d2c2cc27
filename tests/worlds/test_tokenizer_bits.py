"""The tokenizer of the world of shapes: it learns, it repeats, and it is kept in Infinity's own format."""

import torch

from Infinity import Schedule, Tokenizer
from stages.worlds.shapes import Shapes
from stages.worlds.tokenizer import SCALES, train_tokenizer


def test_training_lowers_the_error_repeats_and_is_saved_whole(tmp_path):
    model, history = train_tokenizer(Shapes(), seed=0, steps=30, batch=4)
    again, _ = train_tokenizer(Shapes(), seed=0, steps=30, batch=4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    plain = history.losses[:9]  # pictures that are not quantised come first
    assert sum(plain[-3:]) < 0.8 * sum(plain[:3])
    model.save_pretrained(tmp_path)
    images, scales = 2 * Shapes().sample(2, 1).images - 1, Schedule.of(*SCALES)
    bits = model.encode(images, scales).bits
    assert [tuple(one.shape) for one in bits] == [(2, side, side, 16) for side in SCALES]
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.decode_bits(bits, scales), model.decode_bits(bits, scales))
