import json

import torch

from Infinity import Sampling, TokenizerConfig, sample
from Infinity.bench.__main__ import main
from Infinity.bench.measure import best_of, sampling_work
from Infinity.bench.plain import plain_logits, plain_sample
from Infinity.convolution import Upsample


def test_the_plain_version_computes_the_same(model, inputs, text, grids):
    assert torch.allclose(plain_logits(model, inputs, text, grids), model(inputs, text, grids), atol=2e-5)
    settings = Sampling(2.0, 0.7)
    bits = plain_sample(model, text.select([0]), grids, settings, seed=5)
    ours = sample(model, text.select([0]), grids, settings, seeds=[5]).bits
    assert all(torch.equal(a, b) for a, b in zip(ours, bits, strict=True))


def test_a_sped_up_tokenizer_decodes_the_same_picture(tokenizer):
    codes = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = tokenizer.decode(codes)
        assert torch.allclose(tokenizer.speed_up().decode(codes), plain, atol=1e-6)


def test_folded_upsampling_is_the_same_map_at_every_border():
    layer = Upsample(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        x = torch.randn(1, 3, 3, 5, generator=torch.Generator().manual_seed(1))
        plain = layer(x)
        layer.fast = True
        assert torch.allclose(layer(x), plain, atol=1e-5)


def test_the_least_time_of_interleaved_runs_counts():
    ticks = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0, 30.0, 33.0])
    assert best_of({"a": lambda: 0, "b": lambda: 0}, 2, lambda: next(ticks)) == {"a": 2.0, "b": 1.0}


def test_the_counted_work_is_that_of_the_counting_mode(model, text, grids):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        sample(model, text.select([0]), grids, Sampling(2.0, 0.7), seeds=[5])
    counted = sampling_work(model, grids, 2, text.lengths[0])
    assert abs(counted / counter.get_total_flops() - 1) < 0.02


def test_the_benchmark_writes_its_figures(tmp_path, monkeypatch):
    from Infinity.bench import __main__ as bench
    from Infinity.config import SIZES

    monkeypatch.setitem(SIZES, "infinity_tiny", {"depth": 2, "width": 32, "heads": 4, "text_channels": 24})
    monkeypatch.setattr(bench, "_peak", lambda kind, argv: 1.0)
    monkeypatch.setattr(
        bench.InfinityConfig, "named", lambda name, bits: bench.InfinityConfig(bits=bits, **SIZES[name])
    )
    small = TokenizerConfig(16, base=32, multipliers=(1, 1), stride=2)
    monkeypatch.setattr(bench.TokenizerConfig, "released", lambda bits: small)
    threads = torch.get_num_threads()
    lines: list[str] = []
    options = ["--size", "infinity_tiny", "--scales", "3", "--repeats", "1", "--out", str(tmp_path / "bench.json")]
    assert main(options, write=lines.append) == 0
    torch.set_num_threads(threads)
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert lines[1].startswith("float32: ") and " weights packed for oneDNN; bf16 " in lines[1]
    assert len(lines) == 2 + len(figures) and figures["bits equal to plain"] > 0.99
    assert figures["sampling over torch's floor"] > 0 and figures["largest difference in decoding"] < 1e-3
