"""One thread, no network, no display, set before torch is imported; tiny backbones and a project for several rooms."""

import os
from pathlib import Path

import pytest
import yaml

from tests import ROOT

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"


NUMERIC = (
    "infinity",
    "objectives",
    "parity",
    "training/test_minimize.py",
    "backbones/test_onednn.py",
    "backbones/test_precision.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of `NUMERIC`."""
    folders = tuple(str(ROOT / "tests" / name) for name in NUMERIC)
    for item in items:
        if str(item.path).startswith(folders):
            item.add_marker("numeric")


@pytest.fixture
def backbone():
    from tests.tiny import unet

    return unet()


@pytest.fixture
def concept():
    from stages.params.concept import Concept

    return Concept("red", ("a red shape", "a red circle"), ("a shape", "a circle"), ("a blue circle",))


@pytest.fixture
def project(backbone, tmp_path, monkeypatch):
    """A project folder with a tiny backbone, a concept and a method."""
    from tests.tiny import BUILD

    monkeypatch.chdir(tmp_path)
    backbone.save(Path("artifacts/backbones/tiny"))
    settings = {"path": "artifacts/backbones/tiny", "family": "unet", "steps": 3, "pool": 2, "batch": 4, "build": BUILD}
    red = {"prompts": ["a red shape"], "neutral": ["a shape"], "retain": ["a blue circle"], "target": {"colour": "red"}}
    contents = {
        "backbones/tiny": {"class": "stages.backbones.unet.UNet"} | settings,
        "concepts/red": {"dataset": str(ROOT / "data/shapes_colors.csv")} | red,
        "methods/esd": {"class": "stages.methods.esd.ESD", "steps": 2, "batch": 2, "lr": 0.01},
    }
    for name, content in contents.items():
        path = Path(f"params/{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    return tmp_path


@pytest.fixture(scope="session")
def made():
    """Backbones by family, made when first asked for; tests leave them as they were, and some test just that."""
    from tests.backbones import tiny_infinity
    from tests.backbones.families import FAMILIES

    known = {}

    def make(name):
        if name not in known:
            known[name] = tiny_infinity.make() if name == "infinity" else FAMILIES[name].make()
        return known[name]

    return make


@pytest.fixture
def query():
    """A state and a condition for a backbone: at a time in the middle of its schedule, or of all scales at once."""
    import torch

    from stages.backbones.core.base import State
    from tests.backbones.families import PROMPTS

    def ask(backbone, prompts=PROMPTS):
        condition = backbone.encode(prompts)
        if not hasattr(backbone, "noise"):
            return next(backbone.states(condition, 1, seed=0)), condition
        latent = backbone.noise(range(len(prompts)))
        return State(latent, torch.full((len(prompts),), 500), step=1), condition

    return ask


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> str:
    """A small CLIP with random weights and the tokenizer of the world of shapes."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    from stages.worlds.words import LENGTH, make_tokenizer

    path = tmp_path_factory.mktemp("clip")
    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": 64, "max_position_embeddings": LENGTH, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config=sizes | words, vision_config=sizes | {"image_size": 16, "patch_size": 8}, projection_dim=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)
