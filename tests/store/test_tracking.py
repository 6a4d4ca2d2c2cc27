"""Trackers: the curves are those of the training, and the training is the same with and without."""

import csv
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from stages.interventions.base import holder
from stages.interventions.painting import painter
from stages.methods.circuit_breaker import CircuitBreaker
from stages.methods.esd import ESD
from stages.params import tracker
from stages.params.concept import Concept
from stages.store.record import recording
from stages.store.tracking import paint_with, place
from stages.training.minimize import minimize
from stages.training.settings import Training
from tests.tiny import unet

RED = Concept(name="red", prompts=("a red circle", "a red square"), neutral=("a circle", "a square"), retain=("a dog",))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(tracker.TRACKER, "csv")
    monkeypatch.setenv(tracker.PICTURES, "0")


def rows(label: str, folder: str = "logs/tracking/runs/one/train") -> dict[str, dict[int, float]]:
    """Name -> step -> value, in the order of the file."""
    found: dict[str, dict[int, float]] = {}
    with open(f"{folder}/{label}.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["name"], {})[int(row["step"])] = float(row["value"])
    return found


def train(steps: int = 6, seed: int = 0, label: str = "mine", stop: int | None = None, **settings):
    weight = nn.Parameter(torch.zeros(3))

    def loss(step, generator):
        if step == stop:
            raise KeyboardInterrupt
        return (weight - 1 + 0.1 * torch.randn(3, generator=generator)).square().sum()

    training = Training(**{"steps": steps, "lr": 0.1, "schedule": "linear", "warmup": 2} | settings)
    return weight, lambda: minimize(loss, [weight], training, seed=seed, label=label)


def test_the_file_has_the_very_losses_and_the_rate_of_each_step():
    _, run = train()
    with recording(Path("artifacts/runs/one"), "train", params={}):
        history = run()
    found = rows("mine")
    assert list(found["loss"].values()) == history.losses and list(found["loss"]) == list(range(6))
    assert list(found["lr"].values()) == pytest.approx([0.05, 0.1, 0.1, 0.075, 0.05, 0.025])


def test_a_resumed_training_goes_on_with_its_file():
    _, whole = train(label="whole")
    _, broken = train(stop=4)
    with pytest.raises(KeyboardInterrupt), recording(Path("artifacts/runs/one"), "train", params={}) as record:
        record.pause = 0  # every step is kept
        broken()
    path = Path("logs/tracking/runs/one/train/mine.csv")
    path.write_text(path.read_text() + "5,loss,9.0\n")  # later than the checkpoint
    with recording(Path("artifacts/runs/one"), "train", params={}):
        history = train()[1]()
    with recording(Path("artifacts/runs/one"), "train", params={}):
        unbroken = whole()
    assert history.losses == unbroken.losses == list(rows("mine")["loss"].values())


def test_trainings_of_one_label_have_a_file_each():
    with recording(Path("artifacts/runs/one"), "train", params={}):
        first, second = (train(seed=seed)[1]().losses for seed in (0, 1))
    assert list(rows("mine")["loss"].values()) == first != second == list(rows("mine-2")["loss"].values())
    with recording(Path("artifacts/runs/one"), "train", params={}):
        again = train(seed=2)[1]().losses
    assert list(rows("mine")["loss"].values()) == again


def test_no_file_is_made_without_a_tracker_or_a_recording(monkeypatch):
    train()[1]()
    monkeypatch.setenv(tracker.TRACKER, "none")
    with recording(Path("artifacts/runs/one"), "train", params={}):
        train()[1]()
    assert not Path("logs").exists()


def test_results_lie_apart_and_records_do_not_know_the_tracker(tmp_path):
    assert place(Path("artifacts/runs/sd/red/esd/0")) == Path("logs/tracking/runs/sd/red/esd/0")
    assert place(tmp_path / "artifacts/worlds") == Path("logs/tracking/worlds")
    assert ".." not in place(Path("/elsewhere/x")).parts
    with recording(Path("artifacts/runs/one"), "train", params={}):
        train()[1]()
    assert [path.name for path in Path("artifacts/runs/one").iterdir()] == ["record-train.json"]


def fitted(method, monkeypatch, name: str, pictures: int = 0):
    monkeypatch.setenv(tracker.TRACKER, name)
    monkeypatch.setenv(tracker.PICTURES, str(pictures))
    backbone = unet()
    with recording(Path(f"artifacts/runs/{name}"), "train", params={}) as record:
        paint_with(painter(backbone, RED.prompts))
        intervention = method.fit(backbone, RED, seed=0)
    return intervention.tensors(), record, backbone


@pytest.mark.parametrize("states", ["partial", "frozen"])
def test_a_method_s_tensors_are_the_same_to_the_bit_and_its_pictures_are_drawn(states, monkeypatch):
    method = ESD(steps=4, batch=2, lr=1e-2, states=states)
    plain, record, _ = fitted(method, monkeypatch, "none")
    tracked, again, backbone = fitted(method, monkeypatch, "csv", pictures=2)
    assert plain.keys() == tracked.keys() and all(torch.equal(plain[name], tracked[name]) for name in plain)
    assert record.curves["esd"]["loss"] == again.curves["esd"]["loss"]
    folder = Path("logs/tracking/runs/csv/train/esd")
    files = [f"pictures-{step:06d}-{i}.png" for step in (1, 3) for i in (0, 1)]
    assert sorted(path.name for path in folder.iterdir()) == files
    early, late = (Image.open(folder / files[i]).tobytes() for i in (0, 2))
    assert early != late and Image.open(folder / files[0]).size == backbone.picture_size()[::-1]


def test_cosines_of_a_circuit_breaker_are_followed(monkeypatch):
    fitted(CircuitBreaker(steps=4, rank=2, log_every=2, watched=1, target_layers=(1,)), monkeypatch, "csv")
    found = rows("circuit_breaker", "logs/tracking/runs/csv/train")
    assert set(found) == {"loss", "lr", "breaker_cosine", "retain_cosine"}
    assert list(found["breaker_cosine"]) == [1, 3] and list(found["loss"]) == [0, 1, 2, 3]
    assert all(-1 <= value <= 1 for value in found["retain_cosine"].values())


def test_parameters_that_no_intervention_has_draw_nothing():
    assert holder([nn.Parameter(torch.zeros(1))]) is None
    assert painter(unet(), RED.prompts)([nn.Parameter(torch.zeros(1))]) is None


class Writer:
    """As much of tensorboard's writer as accelerate asks for."""

    said: list[tuple] = []

    def __init__(self, folder, **options):
        self.said.append(("open", Path(folder), options))

    def add_scalar(self, name, value, global_step):
        self.said.append((name, global_step, value))

    def add_images(self, name, values, global_step, dataformats):
        self.said.append((name, global_step, values.shape, dataformats))

    def flush(self): ...

    def close(self):
        self.said.append(("close",))


def test_tensorboard_gets_the_curves_and_the_pictures(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(torch.utils, "tensorboard", SimpleNamespace(SummaryWriter=Writer), raising=False)
    monkeypatch.setattr(tracker, "installed", lambda package: True)
    Writer.said.clear()
    _, record, backbone = fitted(ESD(steps=2, batch=1), monkeypatch, "tensorboard", pictures=2)
    assert Writer.said[0] == ("open", Path("logs/tracking/runs/tensorboard/train/esd"), {"purge_step": None})
    losses = [said[2] for said in Writer.said if said[0] == "loss"]
    assert losses == pytest.approx(record.curves["esd"]["loss"], abs=1e-6) and Writer.said[-1] == ("close",)
    assert [said[1:] for said in Writer.said if said[0] == "pictures"] == [
        (1, (2, *backbone.picture_size(), 3), "NHWC")
    ]


def test_wandb_is_offline_unless_it_is_told_otherwise(monkeypatch):
    said = []
    run = SimpleNamespace(log=lambda values, step: said.append((step, values)), finish=lambda: said.append("finish"))
    wandb = ModuleType("wandb")
    wandb.init = lambda **options: said.append(options) or run
    wandb.Image = lambda pixels: pixels.shape
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(tracker, "installed", lambda package: True)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    _, _, backbone = fitted(ESD(steps=1, batch=1), monkeypatch, "wandb", pictures=1)
    assert os.environ["WANDB_MODE"] == "offline"
    assert said[0] == {"project": "palimpsest", "dir": "logs/tracking/runs/wandb/train", "name": "runs/wandb/train/esd"}
    assert set(said[1][1]) == {"loss", "lr"} and said[-1] == "finish"
    assert said[2] == (0, {"pictures": [(*backbone.picture_size(), 3)] * 2})
