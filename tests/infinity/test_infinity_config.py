import pytest
import torch

from Infinity import Infinity, InfinityConfig, Tokenizer, TokenizerConfig

PARAMETERS = [
    ("infinity_layer12", 16, 125_148_800, 274),
    ("infinity_layer16", 32, 361_633_792, 358),
    ("infinity_layer24", 32, 940_944_832, 526),
    ("infinity_layer32", 32, 2_256_694_912, 694),
    ("infinity_2b", 32, 2_204_564_032, 694),
    ("infinity_layer40", 32, 4_716_421_888, 862),
    ("infinity_layer48", 32, 8_767_198_528, 1030),
    ("infinity_8b", 56, 8_375_791_824, 862),
    ("infinity_20b", 32, 19_952_199_784, 1240),
]


@pytest.mark.parametrize(("name", "bits", "count", "entries"), PARAMETERS)
def test_parameter_counts_are_the_published_ones(name, bits, count, entries):
    from Infinity.names import to_published_transformer

    with torch.device("meta"):
        model = Infinity(InfinityConfig.named(name, bits))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(to_published_transformer(model.state_dict(), model.config)) == entries


@pytest.mark.parametrize(("bits", "count"), [(32, 110_118_051), (14, 81_624_209)])
def test_tokenizer_parameter_counts_are_the_published_ones(bits, count):
    with torch.device("meta"):
        model = Tokenizer(TokenizerConfig.released(bits))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_feed_forward_width_rounds_halves_to_even():
    assert InfinityConfig.named("infinity_layer32", 32).hidden == 8192
    assert InfinityConfig.named("infinity_layer48", 32).hidden == 13312


def test_a_chunk_suffix_sets_the_chunks_and_a_wrong_name_gets_a_hint():
    assert InfinityConfig.named("layer12c3", 16).chunks == 3
    assert InfinityConfig.named("2bc8", 32).chunks == 8
    with pytest.raises(ValueError, match="did you mean infinity_8b"):
        InfinityConfig.named("infinity_8x", 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "heads"),
        ({"depth": 5}, "chunks"),
        ({"width": 0}, "positive"),
        ({"widht": 4}, "did you mean width"),
    ],
)
def test_bad_configurations_name_the_field(config, change, message):
    with pytest.raises(ValueError, match=message):
        InfinityConfig.from_dict({**config.to_dict(), **change})


def test_building_a_model_leaves_the_global_generator_alone_and_its_seed_decides(config):
    before = torch.get_rng_state()
    one, same, other = Infinity(config, seed=1), Infinity(config, seed=1), Infinity(config, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)
