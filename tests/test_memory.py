"""Memory of a training step: predictions against steps that really train, and what must hold for every network."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import architectures

from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.build import build, cost_of
from nas.spaces.space import load_space, names
from nas.training.memory import (
    CONTEXT_BYTES,
    ELEMENT_BYTES,
    FRAGMENTATION,
    evaluation_bytes,
    largest_micro_batch,
    on_gpu,
    training_memory,
)
from nas.training.recipe import PRECISIONS

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

RESNET20 = zoo.get("resnet20")
TOLERANCE = 0.25


def measured(architecture, batch: int, precision: str, micro_batch: int | None = None) -> int:
    from memory import measured as by_the_allocator  # benchmarks/memory.py

    return by_the_allocator(architecture, batch, precision, micro_batch)


def legal(architecture) -> bool:
    try:
        cost_of(architecture)
    except UsageError:
        return False
    return True


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [32, 128])
@pytest.mark.parametrize("name", ["resnet20", "resnet56", "wrn_16_4", "resnext", "mbconv"])
def test_predictions_hold_for_the_nets_of_the_benchmark(name, batch, precision):
    from train import NETS  # benchmarks/train.py

    architecture = NETS[name]()
    assert training_memory(architecture, batch, precision).total == pytest.approx(
        measured(architecture, batch, precision), rel=TOLERANCE
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_small_net_takes_what_is_predicted(precision):
    small = dataclasses.replace(RESNET20, resolution=16)
    assert training_memory(small, 16, precision).total == pytest.approx(measured(small, 16, precision), rel=TOLERANCE)


def test_micro_batches_take_what_is_predicted():
    small = dataclasses.replace(RESNET20, resolution=16)
    whole, parts = (training_memory(small, 32, micro_batch=size).total for size in (32, 8))
    found = measured(small, 32, "fp32", 8)
    assert parts == pytest.approx(found, rel=TOLERANCE) and parts < whole


@pytest.mark.slow
@pytest.mark.parametrize("space", names())
def test_predictions_hold_for_most_of_each_space(space):
    """In fp32: oneDNN's workspaces for depthwise convolutions in bf16 can be larger than a small network."""
    loaded = load_space(space, resolution=32, channels=3, classes=10)
    ratios = []
    for seed in range(4):
        architecture = loaded.architecture(loaded.sample(seed))
        ratios.append(training_memory(architecture, 16).total / measured(architecture, 16, "fp32"))
    assert sum(abs(ratio - 1) <= TOLERANCE for ratio in ratios) >= 3, ratios


def test_resnet20_keeps_two_tensors_for_each_convolution():
    found = training_memory(RESNET20, 128)
    assert found.activations / (128 * cost_of(RESNET20).activations) == pytest.approx(
        2 * ELEMENT_BYTES["fp32"], rel=0.05
    )
    assert found.weights == found.optimiser == 4 * sum(p.numel() for p in build(RESNET20).parameters())


@given(architectures().filter(legal), st.integers(1, 64), st.sampled_from(PRECISIONS))
def test_memory_grows_with_the_batch_and_the_micro_batch(architecture, batch, precision):
    one, more = (training_memory(architecture, size, precision).total for size in (batch, batch + 1))
    assert 0 < one < more
    parts = [training_memory(architecture, batch, precision, micro_batch=size).total for size in range(1, batch)]
    assert parts == sorted(parts)
    assert evaluation_bytes(architecture, batch, precision) < evaluation_bytes(architecture, batch + 1, precision)


@given(architectures().filter(legal), st.integers(1, 64), st.sampled_from(PRECISIONS))
def test_parts_add_up_and_none_is_negative(architecture, batch, precision):
    found = training_memory(architecture, batch, precision)
    parts = dataclasses.astuple(found)
    assert sum(parts) == found.total and min(parts) >= 0
    assert found.gradients <= found.weights == 4 * cost_of(architecture).params
    averaged = training_memory(architecture, batch, precision, ema=True)
    assert averaged.total - found.total == found.weights


def test_bf16_halves_the_activations():
    fp32, bf16 = (training_memory(RESNET20, 128, precision).activations for precision in PRECISIONS)
    assert bf16 == pytest.approx(fp32 / 2, rel=0.02)


def test_resolution_takes_the_place_of_the_architecture_s_own():
    other = dataclasses.replace(RESNET20, resolution=64)
    assert training_memory(RESNET20, 8, resolution=64) == training_memory(other, 8)


@given(st.integers(1, 256), st.integers(0, 1 << 30))
def test_the_first_micro_batch_is_the_largest_half_that_fits(batch, free):
    size = largest_micro_batch(RESNET20, batch, free)
    sizes = [batch >> k for k in range(batch.bit_length())]
    fitting = [s for s in sizes if training_memory(RESNET20, batch, micro_batch=s).total <= free]
    assert size == (max(fitting) if fitting else 1)


def test_allowances_of_a_gpu_are_added():
    assert on_gpu(0) == CONTEXT_BYTES
    assert on_gpu(1 << 30) == CONTEXT_BYTES + int(FRAGMENTATION * (1 << 30))


def test_no_torch_is_needed(python):
    code = (
        "import sys, nas\nfrom nas.training.memory import training_memory\n"
        "training_memory(nas.zoo.get('resnet20'), 2)\nprint('torch' in sys.modules)"
    )
    assert python(code).strip() == "False"
