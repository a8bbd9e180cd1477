"""A process that has loaded objects can fork, whatever became of them."""

import os

import torch

import qcc
from qcc.codegen.cpu.runtime import _LIVE


def test_a_child_does_not_call_the_code_of_a_closed_object() -> None:
    before = set(_LIVE)
    x = torch.randn(4, 16)
    module = qcc.compile(torch.nn.Linear(16, 16), (x,), threads=2)
    module(x)
    [loaded] = set(_LIVE) - before
    loaded.close()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
