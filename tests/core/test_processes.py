"""Gradients averaged over processes: two of them equal one that sees both their draws; one alone is left alone."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from stages.optimize import generator, minimize
from stages.processes import average_gradients

WORK = """
import torch
from stages.optimize import minimize
weight = torch.nn.Parameter(torch.zeros(3))
minimize(lambda step, g: (weight - torch.randn(3, generator=g)).square().sum(), [weight], steps=4, lr=0.1, seed=7)
print(weight.tolist())
"""


def test_a_single_process_keeps_its_gradients_bit_for_bit():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = gradient = torch.tensor([0.1, 0.3])
    average_gradients([parameter])
    assert parameter.grad is gradient


@pytest.mark.slow
def test_two_processes_equal_one_with_both_draws():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", WORK]
    ranks = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for env in ranks]
    results = [process.communicate(timeout=240)[0].strip().splitlines()[-1] for process in started]
    assert results[0] == results[1]

    weight = torch.nn.Parameter(torch.zeros(3))

    def both(step, _):
        draws = [torch.randn(3, generator=generator(7, 2 * step + rank)) for rank in (0, 1)]
        return sum((weight - draw).square().sum() for draw in draws) / 2

    minimize(both, [weight], steps=4, lr=0.1, seed=7)
    torch.testing.assert_close(torch.tensor(eval(results[0])), weight.detach(), rtol=1e-6, atol=1e-7)
