"""Convolutions that PyTorch's kernels don't compute safely on every CPU, the form that is, and the scan that looks for more."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_one_function
from strategies import all_variants, fits
from torch import nn

from nas.execution import machine_check as machine
from nas.networks.blocks import BRANCHES, MERGES, SHORTCUTS, Block
from nas.networks.blocks.modules import PatchConv, PointwiseConv2d

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import kernels

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=40, deadline=None)
@given(
    width_in=st.integers(1, 12),
    width_out=st.integers(1, 5),
    stride=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    bias=st.booleans(),
)
def test_a_strided_pointwise_convolution_computes_what_torch_does(width_in, width_out, stride, height, width, bias):
    torch.manual_seed(0)
    ours = PointwiseConv2d(width_in, width_out, stride, bias=bias).double()
    theirs = nn.Conv2d(width_in, width_out, 1, stride, bias=bias).double()
    assert_one_function(ours, theirs, torch.randn(2, width_in, height, width, dtype=torch.double))


def test_every_block_takes_the_safe_form():
    designs = [
        *((branch, SHORTCUTS["projection"](), MERGES["add"]()) for branch in all_variants(BRANCHES)),
        *((BRANCHES["basic"](), shortcut, MERGES["add"]()) for shortcut in all_variants(SHORTCUTS)),
        *((BRANCHES["basic"](), SHORTCUTS["projection"](), merge) for merge in all_variants(MERGES)),
    ]
    strided = 0
    for branch, shortcut, merge in designs:
        if fits(shortcut, merge, 4, 8, 2):
            for module in Block(branch, shortcut, merge, 4, 8, 2).module().modules():
                if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1):
                    assert module.groups > 1 or isinstance(module, PointwiseConv2d), (branch, shortcut, merge)
                    strided += 1
    assert strided > len(BRANCHES)


@pytest.mark.parametrize("pixels", [3, 4, 8])
def test_patches_in_bf16_are_those_of_double_precision(pixels):
    torch.manual_seed(0)
    conv = PatchConv(24, 8, 4).to(memory_format=torch.channels_last)
    x = torch.randn(4, 24, pixels, pixels).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(conv).double()(x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(conv(x).double(), exact, rtol=0.03, atol=0.03)
    torch.testing.assert_close(conv(x).double(), exact, rtol=1e-4, atol=1e-4)


def test_what_is_exported_for_inference_is_one_convolution():
    network = nn.Sequential(PointwiseConv2d(4, 8, 2, bias=False)).eval()
    with torch.no_grad():
        program = torch.export.export(network, (torch.randn(2, 4, 8, 8),))
    assert [str(node.target) for node in program.graph.nodes if node.op == "call_function"] == ["aten.conv2d.default"]


@pytest.fixture(scope="module")
def fence(tmp_path_factory):
    library = kernels.compiled_fence(tmp_path_factory.mktemp("fence"))
    if library is None:
        pytest.skip("no C compiler")
    return library


@pytest.mark.parametrize(("distance", "dies"), [(-1, False), (0, True), (4096, True)])
def test_the_fence_ends_a_process_that_writes_past_a_block(fence, distance, dies):
    code = f"""
import ctypes
libc, block = ctypes.CDLL(None), ctypes.c_void_p()
libc.posix_memalign(ctypes.byref(block), 64, 4000)
ctypes.memset(block.value + 4000 + {distance}, 1, 1)
libc.free(block)
"""
    environment = {**os.environ, "LD_PRELOAD": str(fence)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (done.returncode < 0) == dies, done.stderr


@pytest.mark.skipif("AVX2" not in kernels.available(), reason="the processor has no AVX2")
@pytest.mark.parametrize("step", [2_000, pytest.param(100, marks=pytest.mark.slow)])
def test_our_convolutions_are_safe_on_avx2(fence, step):
    """The strided 1x1 convolutions of few channels that PyTorch's own form is not safe for, and one in `step` other cases."""
    every = kernels.cases()
    hazards = [
        number
        for number, case in enumerate(every)
        if (case.form, case.kernel, case.stride, case.pixels) == ("nas", 1, 2, 8)
        and (case.precision, case.layout, case.width_out) == ("fp32", "channels_last", 8)
    ]
    assert len(hazards) >= 8
    others = [number for number in range(0, len(every), step) if every[number].form == "nas"]
    faults = kernels.scan("AVX2", sorted({*hazards, *others}), fence)
    assert {every[number]: what for number, what in faults.items()} == {}


@pytest.mark.parametrize(("code", "levels"), [("pass", ["fine"]), ("import os; os.abort()", ["fine", "note"])])
def test_the_doctor_names_a_kernel_that_writes_out_of_bounds(monkeypatch, code, levels):
    start = f"print('{machine.ONEDNN_ISA}Intel AVX2'); print('{{\"capability\": \"AVX2\"}}', flush=True)\n"
    monkeypatch.setattr(machine, "CONVOLUTION", start + code)
    findings = machine._processor()
    assert [finding.level for finding in findings] == levels
    assert "kernels for AVX2 (PyTorch), Intel AVX2 (oneDNN)" in findings[0].what
