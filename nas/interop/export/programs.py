"""The formats `torchscript` and `pt2`: programs of PyTorch, which run without the network's source code.

Both accept any batch size, with images of the network's resolution.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import NasError
from nas.interop.export.formats import EXPORTERS, Exporter, NotExpressible, Subject, plain
from nas.networks.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

# Tolerances relative to the largest logit: in single precision, whose rounding depends on the order of sums, and in double.
CLOSE = 1e-5
SAME = 1e-9
ROUNDINGS = 4.0  # error that a program may have in single precision, as a multiple of PyTorch's
BATCHES = (1, 3)


def as_torchscript(subject: Subject, path: Path) -> None:
    """`torch.jit.load(path)` in Python, `torch::jit::load` in C++. PyTorch deprecates it in favour of `pt2`."""
    import torch

    require_static("torchscript", subject.architecture)
    network = subject.network()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        program = trace(network, images_of(subject.architecture, 2), check_trace=False)
        torch.jit.save(program, str(path), _extra_files=_notes(subject))
        _check(subject, network, load_torchscript, path)


def as_pt2(subject: Subject, path: Path) -> None:
    """`torch.export.load(path).module()`, or compiled ahead of time by AOTInductor."""
    import torch

    require_static("pt2", subject.architecture)
    network = subject.network()
    with silent(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            network, (images_of(subject.architecture, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, str(path), extra_files=_notes(subject))
        _check(subject, network, load_pt2, path)


def require_static(format_name: str, architecture: Architecture) -> None:
    """NotExpressible for a network whose graph depends on the batch size: CondConv has a kernel for each image."""
    width = architecture.stem.width
    for number, stage in enumerate(architecture.stages, 1):
        for block, _ in stage.blocks(width):
            if any(layer.per_image for layer in block.branch.layers(*block.inner)):
                raise NotExpressible(
                    format_name,
                    f"stage {number} mixes a kernel for each image, so that the groups of its convolutions are as many as "
                    "the images",
                )
        width = stage.width


def images_of(architecture: Architecture, count: int) -> Tensor:
    """Random images for checking a program."""
    import torch

    generator = torch.Generator().manual_seed(count)
    size = architecture.resolution
    return torch.randn(count, architecture.channels, size, size, generator=generator)


def excess(network: Any, images: Tensor, logits: Tensor, exactly: Callable[[Tensor], Tensor] | None = None) -> float:
    """Largest difference between a program's logits and the network's, relative to the largest logit; 0 if they are the same network.

    They are if the logits agree to `CLOSE`. With a deep network single precision may be too coarse for that. Then the program
    must agree to `SAME` in double precision (`exactly`) or, if it can't run in it, be at most `ROUNDINGS` times as far from the
    exact logits as PyTorch in single precision.
    """
    import torch

    with torch.inference_mode():
        expected: Tensor = network(images)
        greatest = expected.abs().max().clamp(min=1e-30)
        difference = float((logits - expected).abs().max() / greatest)
        if difference <= CLOSE:
            return 0.0
        exact = copy.deepcopy(network).double()(images.double())
        if exactly is not None:
            with contextlib.suppress(RuntimeError):  # a graph may have single precision fixed
                apart = float((exactly(images.double()) - exact).abs().max() / greatest)
                return apart if apart > SAME else 0.0
        own_error, error = ((one - exact).abs().max() for one in (expected, logits))
    return difference if error > ROUNDINGS * own_error else 0.0


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Suppress log messages up to warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _check(subject: Subject, network: object, load: Callable[[Path, int], Any], path: Path) -> None:
    """NasError if the written program is another network; its file is removed."""
    program = load(path, 0)
    for count in BATCHES:
        images = images_of(subject.architecture, count)
        if difference := excess(network, images, program(images), lambda exact: load(path, 0).double()(exact)):
            path.unlink()
            raise NasError(f"{path.name}: its logits differ from the network's by {difference:.1e} of the greatest")


def _notes(subject: Subject) -> dict[str, str]:
    return {
        "architecture.json": json.dumps(subject.architecture.to_dict()),
        "provenance.json": json.dumps(plain(subject.provenance)),
    }


def load_torchscript(path: Path, threads: int) -> Any:
    import torch

    load: Any = torch.jit.load
    with warnings.catch_warnings(action="ignore"):
        return load(str(path))


def load_pt2(path: Path, threads: int) -> Any:
    import torch

    with silent():
        return torch.export.load(path).module()


EXPORTERS.register("torchscript")(
    Exporter(".torchscript.pt", as_torchscript, "TorchScript, traced", load=load_torchscript)
)
EXPORTERS.register("pt2")(Exporter(".pt2", as_pt2, "torch.export's program", load=load_pt2))
