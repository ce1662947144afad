"""What an engine is chosen by: only what is the same training, and faster, and works."""

from __future__ import annotations

import pytest
import torch

from nas.training.conv_kernels import GAIN, Engine
from nas.training.kernel_benchmark import Short, better, choose, cudnn, probe_engine, short_training

pytestmark = pytest.mark.usefixtures("one_thread")

CHANGE = torch.tensor([3.0, 4.0], dtype=torch.double)
PLAIN = Short(CHANGE, 100.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Short(CHANGE, 100.0 * GAIN), True),
        (Short(CHANGE, 100.0 * GAIN - 1), False),
        (Short(CHANGE + torch.tensor([0.02, 0.0]), 500.0), True),
        (Short(CHANGE + torch.tensor([0.1, 0.0]), 500.0), False),
        (Short(CHANGE * float("nan"), 500.0), False),
        (Short(CHANGE, 500.0, "no graph was made"), False),
    ],
)
def test_what_is_better(found, expected):
    assert better(found, PLAIN) is expected


def test_each_option_is_tried_on_top_of_the_best():
    tried = []

    def train(engine: Engine) -> Short:
        tried.append((engine.benchmark, engine.graphs))
        return Short(CHANGE, 100.0 + 50 * engine.benchmark + 100 * engine.graphs)

    base = Engine(grouped=16)
    assert choose(base, train, repeatable=False) == Engine(16, 0, graphs=True, benchmark=True)
    assert tried == [(False, False), (True, False), (True, True)]
    tried.clear()
    assert choose(base, train, repeatable=True) == Engine(16, 0, graphs=True)
    assert tried == [(False, False), (False, True)]


def test_what_raises_is_not_chosen():
    def train(engine: Engine) -> Short:
        if engine.graphs:
            raise RuntimeError("CUDA graphs are not supported here")
        return Short(CHANGE, 100.0 + 50 * engine.benchmark)

    assert choose(Engine(), train, repeatable=False) == Engine(benchmark=True)


def test_where_no_training_runs_the_engine_stays_plain():
    def train(engine: Engine) -> Short:
        raise torch.OutOfMemoryError("none left")

    assert choose(Engine(grouped=16), train, repeatable=False) == Engine(grouped=16)


def test_short_trainings_are_equal_and_differ_with_the_weights():
    cpu = torch.device("cpu")
    one, two = (short_training(Engine(), cpu, "fp32", 8, steps=1) for _ in range(2))
    assert torch.equal(one.change, two.change) and one.speed > 0 and one.singly == ""
    assert one.change.norm() > 0


def test_on_a_cpu_no_training_is_tried(monkeypatch):
    monkeypatch.setattr("nas.training.kernel_benchmark.short_training", None)
    assert probe_engine(torch.device("cpu"), "auto", 8) == Engine()


def test_cudnns_flags_are_put_back():
    flags = torch.backends.cudnn
    before = flags.deterministic, flags.benchmark
    with pytest.raises(ZeroDivisionError), cudnn(Engine(benchmark=True)):
        assert (flags.deterministic, flags.benchmark) == (True, True)
        raise ZeroDivisionError
    assert (flags.deterministic, flags.benchmark) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_probe_chooses_and_leaves_the_random_state():
    state = torch.cuda.get_rng_state()
    found = probe_engine(torch.device("cuda"), "auto", 32)
    assert not found.benchmark and (found.grouped, found.depthwise) == (0, 0)
    assert torch.equal(state, torch.cuda.get_rng_state())
