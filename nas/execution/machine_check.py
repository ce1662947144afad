"""Checks of this installation and this machine for a search; separate processes test libraries that may crash."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from nas.execution.ray import token as tokens
from nas.execution.ray.open_ports import listening
from nas.runs.doctor._base import Finding
from nas.utils.files import existing, free_space
from nas.utils.limits import available_cores
from nas.utils.text import format_bytes
from nas.utils.versions import VERSION

SECONDS = 180  # for importing a library on a busy machine
LEAST_FILES = 4096  # open files of the driver, which needs several per worker
LEAST_SHARED = 1 << 30  # bytes of shared memory
LEAST_FREE = 1 << 30  # bytes on the disk of the current folder

TORCH = """
import json, warnings
warnings.simplefilter("ignore")
import torch
import torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)  # a compiled operation, which fails with another torch
print(json.dumps({
    "torch": torch.__version__, "torchvision": torchvision.__version__, "cuda": torch.version.cuda,
    "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else [],
}))
"""
# The weight gradient of a strided 1x1 convolution with few channels: oneDNN's AVX2 kernel writes past the end of a buffer, and
# glibc's checks then end the process. `nas.networks.blocks.modules.PointwiseConv2d` is the safe form.
CONVOLUTION = """
import json
import torch
torch.set_num_threads(1)
print(json.dumps({"capability": torch.backends.cpu.get_cpu_capability()}), flush=True)
x = torch.randn(8, 4, 8, 8).to(memory_format=torch.channels_last)
w = torch.randn(8, 4, 1, 1, requires_grad=True)
for _ in range(60):
    torch.nn.functional.conv2d(x, w, stride=2).square().sum().backward()
"""
ONEDNN_ISA = "onednn_verbose,v1,info,cpu,isa:"
RAY = "import json, ray, ray.tune; print(json.dumps({'ray': ray.__version__}))"


def examine_machine() -> list[Finding]:
    """Check what nas needs here: PyTorch and its GPUs, Ray, shared memory, open files, disk space, and access to Ray."""
    return [
        _python(),
        _cores(),
        *_torch(),
        *_processor(),
        *_ray(),
        *_shared_memory(Path("/dev/shm")),
        _files(),
        *_room(Path.cwd()),
        *_token(tokens.token_file()),
        *_ports(Path("/proc")),
    ]


def _python() -> Finding:
    return Finding("fine", "python", f"{sys.version.split()[0]}, nas {VERSION}")


def _cores() -> Finding:
    here, whole = available_cores(), os.cpu_count() or 1
    less = f"{here} of this machine's {whole}, by CPU affinity or a quota of cgroups"
    return Finding("fine", "cores", less if here < whole else f"{here}")


def _answer_of(code: str) -> tuple[dict[str, Any], str]:
    """The JSON that a new interpreter prints when it runs `code`; or {} and the last line of its error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {SECONDS} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {}, lines[-1] if lines else f"it ended with {done.returncode}"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer, ""


def _torch() -> list[Finding]:
    versions, problem = _answer_of(TORCH)
    if problem:
        advice = (
            "install torch and torchvision together, of one release: pip install --force-reinstall torch torchvision"
        )
        return [Finding("needs you", "torch", f"torch and torchvision can't be used: {problem}", advice)]
    answer = [Finding("fine", "torch", f"{versions['torch']}, torchvision {versions['torchvision']}")]
    gpus, cuda = versions["gpus"], versions["cuda"]
    if gpus:
        return [*answer, Finding("fine", "GPUs", f"{len(gpus)}: {', '.join(sorted(set(gpus)))}, CUDA {cuda}")]
    if any(Path("/dev").glob("nvidia[0-9]*")):
        why = "this torch is built without CUDA" if cuda is None else f"this torch needs a driver for CUDA {cuda}"
        text = f"this machine has GPUs that torch can't use: {why}"
        return [*answer, Finding("warning", "GPUs", text, "nvidia-smi shows the driver's CUDA version")]
    return [*answer, Finding("note", "GPUs", "none: trials are trained on the CPU")]


def _processor() -> list[Finding]:
    """The processor, the instruction sets that PyTorch and oneDNN use on it, and whether their kernels are correct there."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    if platform.libc_ver()[0] == "glibc":
        environment |= {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    command = [sys.executable, "-c", CONVOLUTION]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment)
    except subprocess.TimeoutExpired:
        return [Finding("warning", "processor", f"{_model()}: PyTorch gave no answer within {SECONDS} s")]
    lines = done.stdout.splitlines()
    isa = next((line.removeprefix(ONEDNN_ISA) for line in lines if line.startswith(ONEDNN_ISA)), "unknown")
    capability = next((json.loads(line)["capability"] for line in lines if line.startswith("{")), "unknown")
    text = f"{_model()}; kernels for {capability} (PyTorch), {isa} (oneDNN)"
    if done.returncode >= 0:
        return [Finding("fine", "processor", text)]
    hazard = "PyTorch writes out of bounds here when it trains a 1x1 convolution with stride and under 8 channels"
    advice = "networks of nas use a safe form; avoid such convolutions in your own training code on this CPU"
    return [Finding("fine", "processor", text), Finding("note", "PyTorch's kernels", hazard, advice)]


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _ray() -> list[Finding]:
    versions, problem = _answer_of(RAY)
    if problem:
        advice = "pip install 'ray[tune]'; or train without Ray: --executor local"
        return [Finding("needs you", "ray", f"can't be imported: {problem}", advice)]
    return [Finding("fine", "ray", versions["ray"])]


def _shared_memory(place: Path) -> list[Finding]:
    """Free shared memory, where Ray keeps the images; if it is too small, Ray uses /tmp, which is slow."""
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return []
    text = f"{format_bytes(usage.free)} of {format_bytes(usage.total)} free"
    if usage.free >= LEAST_SHARED:
        return [Finding("fine", "shared memory", text)]
    advice = "in a container: docker run --shm-size=4g; Ray's workers read the images from there"
    return [Finding("warning", "shared memory", text, advice)]


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_FILES:
        return Finding("fine", "open files", f"up to {soft} a process")
    return Finding(
        "warning",
        "open files",
        f"up to {soft} a process",
        f"ulimit -n {min(hard, 65536)}: Ray needs several per worker",
    )


def _room(folder: Path) -> list[Finding]:
    try:
        free = shutil.disk_usage(existing(folder)).free
    except OSError:
        return []
    return [Finding("fine" if free >= LEAST_FREE else "warning", "disk", f"{free_space(folder)}, under {folder}")]


def _token(path: Path | None) -> list[Finding]:
    """Whether only its owner can read Ray's token, which lets its reader run code on the cluster. None: the environment holds it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path else 0o600
    except OSError:
        return []
    if mode & 0o077:
        text = f"{path} can be read or written by other users of this machine (mode {mode:o})"
        return [
            Finding("warning", "Ray's token", text, f"chmod 600 {path}: anyone who has it may run code on your cluster")
        ]
    return [Finding("fine", "Ray's token", f"{path or tokens.TOKEN} is yours alone")]


def _has_token() -> bool:
    path = tokens.token_file()
    return path is None or path.exists()


def _environment(folder: Path) -> dict[str, str]:
    """The environment with which a process was started; empty for a process of another user."""
    try:
        entries = (folder / "environ").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _ports(proc: Path) -> list[Finding]:
    """Ports of Ray's servers, which listen on all interfaces even with a loopback address."""
    findings = []
    for name, pid, ports in listening(proc):
        shown = ", ".join(map(str, ports[:5])) + (" ..." if len(ports) > 5 else "")
        text = f"{name} (process {pid}) listens on all interfaces: port{'s' if len(ports) > 1 else ''} {shown}"
        # If nas started it, its environment asks for the token.
        by_nas = _environment(proc / str(pid)).get(tokens.MODE, "").lower() == "token"
        safe = by_nas or (os.environ.get(tokens.MODE, "token").lower() == "token" and _has_token())
        advice = (
            "it asks for the token; protect it with a firewall as well"
            if safe
            else "anyone who reaches it may run code here: start Ray with RAY_AUTH_MODE=token, protected by a firewall"
        )
        findings.append(Finding("note" if safe else "warning", "Ray's ports", text, advice))
    return findings
