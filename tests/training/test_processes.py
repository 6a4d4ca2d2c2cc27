"""Several processes are one: gradients and adversaries are equal on all, the first alone writes, one is left alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages import train
from stages.seeds import Purpose, generator
from stages.training.minimize import minimize
from stages.training.processes import average_gradients, claim_device
from stages.training.settings import Training
from tests import ROOT

WORK = """
import torch
from stages.training.minimize import minimize
from stages.training.settings import Training
weight = torch.nn.Parameter(torch.zeros(3))
history = minimize(
    lambda step, g: (weight - torch.randn(3, generator=g)).square().sum(), [weight], Training(steps=4, lr=0.1), seed=7
)
print([weight.tolist(), history.losses])
"""
UNEVEN = """
import json, torch
from stages.training.processes import average_gradients, rank
both, one, other, none = (torch.nn.Parameter(torch.zeros(2)) for _ in range(4))
weight = one if rank() == 0 else other
((2 + 2 * rank()) * (both + weight).sum()).backward()
average_gradients([one, other, none, both])
print(json.dumps([None if p.grad is None else p.grad.tolist() for p in (both, one, other, none)]))
"""
RESUMED = """
import contextlib, torch
from stages.methods.receler import Enemy
from stages.training.minimize import minimize
from stages.training.processes import rank
from stages.training.settings import Training
from stages.store.record import recording

def run(stop, folder):
    weight, enemy = torch.nn.Parameter(torch.zeros(3)), Enemy(1, torch.zeros(1, 1, 3), 0.1, 0.0, 5)

    def loss(step, generator):
        if step == stop:
            raise KeyboardInterrupt
        draw = torch.randn(3, generator=generator)
        enemy.step((enemy.vectors - draw).square().sum(), keep_graph=False)
        return (weight - draw - enemy.vectors[0].detach()).square().sum()

    with recording(folder, "train", params={}) if rank() == 0 else contextlib.nullcontext() as record:
        if record:
            record.pause = 0  # every step is kept
        minimize(loss, [weight], Training(steps=6, lr=0.1, ema=0.9), seed=7, companions=[enemy])
    return [weight.tolist(), enemy.vectors.tolist()]

unbroken = run(None, "unbroken")
with contextlib.suppress(KeyboardInterrupt):
    run(4, "broken")
print([unbroken, run(None, "broken")])
"""
SEARCHED = """
import torch
from stages.backbones import load_backbone
from stages.params.concept import Concept
from stages.methods.eap import EAP, Mixture

mixtures, step = {}, Mixture.step
Mixture.step = lambda self, *args, **named: mixtures.setdefault(id(self), self) and step(self, *args, **named)
concept = Concept("red", ("a red shape", "a red circle"), ("a shape", "a circle"), ("a blue circle", "a square"))
weights = EAP(steps=3, lr=0.01, batch=1, search_lr=0.1).fit(load_backbone("tiny"), concept, seed=0)
logits = [mixture.logits.tolist() for mixture in mixtures.values()]
print([float(sum(v.double().sum() for v in weights.tensors().values())), logits])
"""
TRAINED = """
import json
from stages import train
from stages.interventions import save
asked, recording = [], train.recording
train.recording = lambda *args, **named: asked.append(1) or recording(*args, **named)
names = ["--backbone", "tiny", "--concept", "red", "--method", "esd", "--seed", "1", "--out", "artifacts/out"]
print([train.main(names), len(asked)])
"""


def launched(work):
    """What two processes print last, each as a value."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    own = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    shared = os.environ | own | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", work]
    ranks = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for env in ranks]
    return [json.loads(process.communicate(timeout=240)[0].strip().splitlines()[-1]) for process in started]


def test_a_single_process_keeps_its_gradients_bit_for_bit():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = gradient = torch.tensor([0.1, 0.3])
    average_gradients([parameter])
    assert parameter.grad is gradient


def test_a_process_claims_the_gpu_of_its_number(monkeypatch):
    claimed = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", claimed.append)
    claim_device()
    assert claimed == []
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    claim_device()
    assert claimed == [1]


def test_training_claims_its_device_before_anything_is_loaded(project, monkeypatch, capsys):
    def claim():
        raise ValueError("claimed")

    monkeypatch.setattr("stages.training.processes.claim_device", claim)
    monkeypatch.setattr("stages.backbones.load_backbone", None)
    names = ["--backbone", "tiny", "--concept", "red", "--method", "esd", "--seed", "1", "--out", "out"]
    assert train.main(names) == 2 and "claimed" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_equal_one_with_both_draws():
    results = launched(WORK)
    assert results[0] == results[1]

    weight = torch.nn.Parameter(torch.zeros(3))

    def both(step, _):
        draws = [torch.randn(3, generator=generator(Purpose.STEP, 7, 2 * step + rank)) for rank in (0, 1)]
        return sum((weight - draw).square().sum() for draw in draws) / 2

    history = minimize(both, [weight], Training(steps=4, lr=0.1), seed=7)
    torch.testing.assert_close(torch.tensor(results[0][0]), weight.detach(), rtol=1e-6, atol=1e-7)
    assert results[0][1] == pytest.approx(history.losses)


@pytest.mark.slow
def test_a_process_without_a_gradient_counts_as_one_of_zeros():
    assert launched(UNEVEN) == [[[3.0, 3.0], [1.0, 1.0], [2.0, 2.0], None]] * 2


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_equals_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = launched(RESUMED)
    unbroken, resumed = first
    assert first == second  # the adversary too, though each process moves it by draws of its own
    assert resumed == unbroken


@pytest.mark.slow
def test_what_a_method_searches_for_is_equal_in_all_processes(project):
    first, second = launched(SEARCHED)
    assert first == second
    assert all(max(logits[0]) != min(logits[0]) for logits in first[1][:1])


@pytest.mark.slow
def test_the_first_of_two_processes_alone_writes(project):
    assert launched(TRAINED) == [[0, 1], [0, 0]]
    names = {path.name for path in Path("artifacts/out").iterdir()}
    assert {"intervention.safetensors", "record-train.json"} <= names
