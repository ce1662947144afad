"""Scan for wrong values and out-of-bounds writes of PyTorch's CPU kernels in the operations of our blocks, for each instruction set.

uv run python benchmarks/kernels.py [--isa AVX2 ...] [--every 50] [--json FILE]

A case is one small module: a convolution (with the kernels, strides, channels, groups, pixels and layouts of our blocks) or
a block of each registered branch, shortcut and merge. Its output and its gradients of input and parameters are computed
once and compared with the same module in double precision, for which PyTorch has separate kernels. Convolutions are
tested in two forms: `pytorch`, as `torch.nn.Conv2d` computes them, and `nas`, as `nas.blocks` does. Blocks are `nas`.

Cases run in a process with one thread, under an allocator (`fence.c`, compiled with `cc`) that ends the process at a write past the
end of a buffer; a new process continues after that case. `ONEDNN_MAX_CPU_ISA` and `ATEN_CPU_CAPABILITY` make a processor use
the kernels of an older one. Instruction sets that this processor lacks are left out.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import mmap
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import UsageError
from nas.networks.blocks import BRANCHES, MERGES, SHORTCUTS, Block
from nas.networks.blocks.primitives import Conv, Patch

# Limit of oneDNN: the limit of PyTorch's own kernels, and the processor flag that both need.
ISAS = {
    "SSE41": ("default", "sse4_1"),
    "AVX": ("default", "avx"),
    "AVX2": ("avx2", "avx2"),
    "AVX512_CORE": ("avx512", "avx512bw"),
    "AVX512_CORE_BF16": ("avx512", "avx512_bf16"),
}
KERNELS = ((1, 1), (1, 2), (1, 3), (2, 2), (3, 1), (3, 2), (4, 4), (5, 1), (5, 2), (7, 2))  # kernel, stride
CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24)
OUTPUTS = (4, 8, 24)
GROUPS = (1, 2, 4, 0)  # 0: depthwise
PIXELS = (1, 2, 3, 4, 7, 8, 16)
BATCH = 4
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03}  # relative to 1 + the largest value
BLOCK_TOLERANCE = 1e-2  # batch norms over a few values amplify rounding
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Case:
    """One module on one input. `block`: branch, shortcut and merge; otherwise a convolution in one of two forms."""

    form: str
    width_in: int
    width_out: int
    stride: int
    pixels: int
    precision: str
    kernel: int = 0
    groups: int = 1
    layout: str = "channels_last"
    block: tuple[str, str, str] | None = None

    def module(self) -> nn.Module:
        if self.block is not None:
            branch, shortcut, merge = (r[k]() for r, k in zip((BRANCHES, SHORTCUTS, MERGES), self.block, strict=True))
            return Block(branch, shortcut, merge, self.width_in, self.width_out, self.stride).module()
        padding = 0 if self.kernel == self.stride else self.kernel // 2  # patches have none
        if self.form == "nas" and self.kernel == self.stride > 1:
            return Patch(self.width_out, self.stride).module(self.width_in)
        if self.form == "nas":
            return Conv(self.width_out, self.kernel, self.stride, self.groups, norm=False, act="").module(self.width_in)
        return nn.Conv2d(
            self.width_in, self.width_out, self.kernel, self.stride, padding, groups=self.groups, bias=False
        )

    @property
    def family(self) -> str:
        """A group of cases that roughly use the same kernel of the library."""
        if self.block is not None:
            return f"block {' '.join(self.block)}, stride {self.stride}, {self.precision}"
        groups = "depthwise" if self.groups == self.width_in > 1 else "grouped" if self.groups > 1 else "dense"
        return f"{self.kernel}x{self.kernel} {groups}, stride {self.stride}, {self.precision}, {self.layout}"


def cases() -> list[Case]:
    return [*_convolutions(), *_blocks()]


def _convolutions() -> Iterator[Case]:
    grid = itertools.product(("pytorch", "nas"), KERNELS, CHANNELS, OUTPUTS, GROUPS, PIXELS, DTYPES, (True, False))
    for form, (kernel, stride), width_in, out, asked, pixels, precision, last in grid:
        groups, width_out = (width_in, width_in) if asked == 0 else (asked, out)
        if width_in % groups or width_out % groups or (asked == 0 and out != OUTPUTS[0]):
            continue
        if kernel == stride > 1 and (pixels < kernel or groups > 1):
            continue
        layout = "channels_last" if last else "contiguous"
        yield Case(form, width_in, width_out, stride, pixels, precision, kernel, groups, layout)


def _blocks() -> Iterator[Case]:
    designs = [
        *((branch, "projection", "add") for branch in BRANCHES),
        *(("basic", shortcut, "add") for shortcut in SHORTCUTS),
        *(("basic", "projection", merge) for merge in MERGES),
    ]
    grid = itertools.product(dict.fromkeys(designs), (1, 2), ((4, 4), (3, 5), (6, 12), (8, 16)), (2, 4, 8), DTYPES)
    for design, stride, (width_in, width_out), pixels, precision in grid:
        case = Case("nas", width_in, width_out, stride, pixels, precision, block=design)
        try:
            SHORTCUTS[design[1]]().layers(width_in, width_out, stride, True)
        except UsageError:  # identity between two shapes
            continue
        yield case


def wrong(case: Case, seed: int) -> str:
    """The values that differ from double precision: `output`, `gradient of ...`; empty if none does."""
    torch.manual_seed(seed)
    module = case.module()
    reference = copy.deepcopy(module).double()
    x = torch.randn(BATCH, case.width_in, case.pixels, case.pixels)
    if case.block is None:  # rounded first, so that the reference gets the same numbers
        for parameter in module.parameters():
            parameter.data = parameter.data.to(DTYPES[case.precision])
        reference.load_state_dict(module.state_dict())
        x = x.to(DTYPES[case.precision])
    memory_format = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
    exact = _results(reference, x.double(), seed, autocast=False)
    values = _results(
        module.to(memory_format=memory_format),  # type: ignore[call-overload]
        x.to(memory_format=memory_format),
        seed,
        autocast=case.block is not None and case.precision == "bf16",
    )
    tolerance = TOLERANCE[case.precision] if case.block is None else BLOCK_TOLERANCE
    for name, value in values.items():
        difference = (value.double() - exact[name]).abs().max().item()
        if case.block is not None and case.precision == "bf16":
            if not value.isfinite().all():
                return name
        elif not difference <= tolerance * (1 + exact[name].abs().max().item()):
            return name
    return ""


def _results(module: nn.Module, x: Tensor, seed: int, *, autocast: bool) -> dict[str, Tensor]:
    torch.manual_seed(seed)  # gates and stochastic depth draw random numbers
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = module(x)
    weights = torch.arange(y.numel()).remainder(7).sub(3).reshape(y.shape).to(y.dtype)
    y.backward(weights)
    gradients = {f"gradient of {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"output": y.detach(), "gradient of input": x.grad, **gradients}  # type: ignore[dict-item]


def child(numbers: list[int]) -> None:
    """Test these cases and print the faults as JSON; a fault that ends the process costs only a fork, not a new interpreter."""
    torch.set_num_threads(1)  # a fork would lose other threads
    every, faults = cases(), {}
    position = mmap.mmap(-1, mmap.PAGESIZE)  # shared with the forks: the number of started cases
    with tempfile.TemporaryFile() as differing:
        while (begun := int.from_bytes(position[:8])) < len(numbers):
            if not (pid := os.fork()):
                for index in range(begun, len(numbers)):
                    position[:8] = (index + 1).to_bytes(8)
                    if what := wrong(every[numbers[index]], numbers[index]):
                        os.write(differing.fileno(), f"{numbers[index]} {what}\n".encode())
                os._exit(0)
            if status := os.waitpid(pid, 0)[1]:
                number = numbers[int.from_bytes(position[:8]) - 1]
                if not os.WIFSIGNALED(status):
                    raise SystemExit(f"case {number} raised an exception: {every[number]}")
                faults[number] = "out of bounds"
        differing.seek(0)
        for line in differing.read().decode().splitlines():
            number, what = line.split(" ", 1)
            faults.setdefault(int(number), what)
    print(json.dumps(faults))


def scan(isa: str, numbers: list[int], fence: Path | None) -> dict[int, str]:
    """Faults by case under this instruction set: 'out of bounds', or the values that differ."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "ATEN_CPU_CAPABILITY": ISAS[isa][0]}
    environment |= (
        {"LD_PRELOAD": str(fence)} if fence else {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    )
    command = [sys.executable, __file__, "--child", *map(str, numbers)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return {int(number): what for number, what in json.loads(done.stdout).items()}


def compiled_fence(folder: Path) -> Path | None:
    """`fence.c` as a library; None without a C compiler, in which case glibc's checks are used."""
    library = folder / "fence.so"
    command = ["cc", "-O2", "-shared", "-fPIC", str(Path(__file__).with_name("fence.c")), "-o", str(library), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def available() -> list[str]:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return [isa for isa, (_, needed) in ISAS.items() if needed in flags]


def table(every: list[Case], numbers: list[int], faults: dict[str, dict[int, str]]) -> Iterator[str]:
    yield "| instruction set | form | cases | writes out of bounds | wrong values |"
    yield "|---|---|---|---|---|"
    for isa, of_isa in faults.items():
        for form in ("pytorch", "nas"):
            tried = [number for number in numbers if every[number].form == form]
            bad = [of_isa[number] for number in tried if number in of_isa]
            outside = bad.count("out of bounds")
            yield f"| {isa} | {form} | {len(tried):,} | {outside} | {len(bad) - outside} |"
    for isa, of_isa in faults.items():
        families = Counter((every[number].form, every[number].family, what) for number, what in of_isa.items())
        for (form, family, what), count in sorted(families.items()):
            of = [every[k] for k, w in of_isa.items() if (every[k].form, every[k].family, w) == (form, family, what)]
            yield (
                f"{isa}, {form}: {family}: {what} in {count}; "
                f"channels {_range(c.width_in for c in of)}, outputs {_range(c.width_out for c in of)}, "
                f"pixels {_range(c.pixels for c in of)}"
            )


def _range(values: Iterator[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="+", choices=ISAS, help="instruction sets; default: all that this processor has")
    parser.add_argument("--every", type=int, default=1, help="try one case in so many")
    parser.add_argument("--json", type=Path, help="write the faults there")
    parser.add_argument("--child", nargs="+", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    every = cases()
    numbers = list(range(0, len(every), arguments.every))
    with tempfile.TemporaryDirectory() as folder:
        fence = compiled_fence(Path(folder))
        print(f"{len(numbers):,} cases; {'fence.c' if fence else 'no C compiler: MALLOC_CHECK_'}", file=sys.stderr)
        faults = {}
        for isa in arguments.isa or available():
            faults[isa] = scan(isa, numbers, fence)
            print(f"{isa}: {len(faults[isa])} faults", file=sys.stderr)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}\n")
    print("\n".join(table(every, numbers, faults)))
    if arguments.json:
        rows = [
            {"isa": isa, **asdict(every[number]), "fault": what}
            for isa, of_isa in faults.items()
            for number, what in of_isa.items()
        ]
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
