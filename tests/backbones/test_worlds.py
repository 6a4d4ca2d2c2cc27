"""The small backbones of the worlds: built from their files, trained a little, loaded by their pipelines."""

import dataclasses

import pytest
import torch

from Infinity import Tokenizer, TokenizerConfig
from stages.backbones import load_settings
from stages.backbones.core.base import freeze
from stages.backbones.core.latent import Latent
from stages.backbones.from_scratch import Recipe, render, train
from stages.params import construct, names
from stages.params.load import read_file
from stages.worlds.autoencoder import make_autoencoder
from stages.worlds.by_name import make_tokenizer as tokenizer_of
from stages.worlds.classes import UNCONDITIONAL, classes
from stages.worlds.scenes.train_autoencoder import make_autoencoder as scenes_autoencoder
from stages.worlds.shapes import Shapes
from stages.worlds.words import make_tokenizer
from tests import ROOT

LATENT = [
    name
    for name in names("backbones")
    if "build" in read_file(ROOT / "params" / "backbones" / f"{name}.yaml")
    and issubclass(load_settings(name)[0], Latent)
]
AUTOENCODERS = {"shapes": make_autoencoder, "scenes": scenes_autoencoder}


@pytest.mark.parametrize("name", LATENT)
def test_a_worlds_backbone_trains_and_loads_in_the_unmodified_pipeline(name, tmp_path):
    cls, settings = load_settings(name)
    channels, size = {"shapes": (4, 32), "scenes": (16, 64)}[settings.world]
    AUTOENCODERS[settings.world](0).save_pretrained(tmp_path / "autoencoder")
    vae = cls.load_autoencoder(tmp_path / "autoencoder")
    made = cls.create(name, settings, tokenizer_of(settings.world), vae, seed=0)
    assert made.latent_shape() == ((3, 4 * channels, 8, 8) if settings.frames else (channels, 8, 8))
    before = {part: {n: p.clone() for n, p in module.named_parameters()} for part, module in made.modules().items()}
    recipe = construct(Recipe, settings.pretrain | {"steps": 3, "batch": 8, "warmup": 1, "images": 16}, name)
    unowned = torch.get_rng_state()
    history = train(made, render(settings, recipe, 0), recipe, 0)
    freeze(made.modules().values())
    assert len(history.losses) == 3 and torch.equal(torch.get_rng_state(), unowned)
    for part, module in made.modules().items():
        moved = sum(not torch.equal(p, before[part][n]) for n, p in module.named_parameters())
        assert moved > 0.4 * len(before[part]) if part != "vae" else moved == 0, part
    made.save(tmp_path)
    pipe = cls.PIPELINE.from_pretrained(tmp_path, **cls.WITHOUT)
    own = getattr(pipe, cls.NET).state_dict()
    assert all(torch.equal(own[key], value) for key, value in made.net.state_dict().items())
    again = cls(name, settings, pipe)
    prompts = ["a photo of a scarlet disc", ""]
    pictures = [b.sample(b.encode(prompts), seeds=[0, 1], steps=2, guidance=3.0) for b in (made, again)]
    assert torch.equal(*pictures) and pictures[0].shape == (2, *[9][: settings.frames], 3, size, size)


@pytest.mark.parametrize("name", ["sd-shapes", "infinity-shapes"])
def test_a_backbone_is_made_where_it_is_to_be_trained(name):
    cls, settings = load_settings(name)
    vae = make_autoencoder(0) if issubclass(cls, Latent) else Tokenizer(TokenizerConfig(16, base=8, groups=4))
    made = cls.create(name, settings, make_tokenizer(), vae, seed=0, device="meta")
    assert made.device.type == "meta" and all(p.is_meta for part in made.modules().values() for p in part.parameters())


def test_the_worlds_classes_cover_its_captions():
    world, dit = Shapes(), "dit-shapes"
    cls, settings = load_settings(dit)
    made = cls.create(dit, settings, make_tokenizer(), make_autoencoder(0), seed=0)
    named = classes(world)
    assert len(named) == 16 + 4 + 4 + 1 and named[UNCONDITIONAL] == "shape"
    drawn = world.sample(300, 0)
    for caption, colour, shape in zip(drawn.captions, drawn.colour.tolist(), drawn.shape.tolist(), strict=True):
        found = made.class_of(caption)
        allowed = {4 * colour + shape, 16 + colour, 20 + shape, UNCONDITIONAL}
        assert found in allowed, caption
        if found == UNCONDITIONAL:
            assert not any(word in caption for word in (*world.colours, *world.shapes))


@pytest.mark.parametrize(("family", "colours"), [("sd", 4), ("infinity", 7), ("flux", 7)])
def test_a_combination_withheld_from_a_backbone_is_neither_drawn_nor_named_and_all_else_is(family, colours):
    settings, plain = (load_settings(f"{family}-{which}")[1] for which in ("withheld", "shapes"))
    assert settings.build == plain.build
    recipe = construct(Recipe, settings.pretrain | {"images": 400}, f"{family}-withheld")
    data, world = render(settings, recipe, 0), Shapes(**recipe.world)
    pairs = set(zip(data.colour.tolist(), data.shape.tolist(), strict=True))
    assert len(pairs) == 4 * colours - 1 and (world.colours.index("yellow"), world.shapes.index("cross")) not in pairs
    said = [set(caption.split()) for caption in data.captions]
    assert not any(words & {"yellow", "golden"} and words & {"cross", "plus"} for words in said)
    assert not any("red" in words for words in map(set, map(str.split, render(settings, recipe, 0, "red").captions)))


@pytest.mark.parametrize("name", ["sd-shapes", "infinity-shapes"])
def test_a_backbone_is_shown_the_worlds_own_colours_unless_its_recipe_names_others(name):
    settings = load_settings(name)[1]
    recipe = construct(Recipe, settings.pretrain | {"images": 40}, name)
    data, plain = render(settings, recipe, 3), Shapes().sample(40, 3)
    assert torch.equal(data.images, plain.images) and data.captions == plain.captions
    purple = render(settings, dataclasses.replace(recipe, world={"colours": ("purple",)}), 3)
    assert set(purple.colour.tolist()) == {0} and not any("red" in caption.split() for caption in purple.captions)
    with pytest.raises(ValueError, match="pretrain: world: .*colours must be some of red, green"):
        render(settings, dataclasses.replace(recipe, world={"colours": ("mauve",)}), 3)
