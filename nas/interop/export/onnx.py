"""The format `onnx`: the graph with its weights, for any batch size.

Each file is checked: onnxruntime runs it with two batch sizes, and its logits are compared with PyTorch's. Needs the packages
onnx, onnxscript and onnxruntime (`pip install "nas[onnx]"`).
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import NasError
from nas.interop.export.formats import EXPORTERS, Exporter, MissingPackage, Subject, plain
from nas.interop.export.programs import excess, images_of, require_static, silent

if TYPE_CHECKING:
    from torch import Tensor

NAME = "onnx"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
EXTRA = '"nas[onnx]"'  # installs them
LARGEST = 450_000_000  # parameters in one file: protocol buffers are limited to 2 GiB
BATCHES = (1, 3)


def write(subject: Subject, path: Path) -> None:
    """MissingPackage, NotExpressible; NasError if onnxruntime gives other logits than PyTorch."""
    if any(importlib.util.find_spec(package) is None for package in NEEDED):
        raise MissingPackage(NAME, EXTRA)
    import torch

    require_static(NAME, subject.architecture)
    network = subject.network()
    params = sum(tensor.numel() for tensor in network.parameters())
    with silent(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (images_of(subject.architecture, 2),),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(
        {"digest": subject.architecture.digest, "provenance": json.dumps(plain(subject.provenance))}
    )
    program.save(str(path), external_data=params > LARGEST)
    _check(subject, network, path)


def _check(subject: Subject, network: object, path: Path) -> None:
    run = load(path)
    for count in BATCHES:
        images = images_of(subject.architecture, count)
        if difference := excess(network, images, run(images)):
            for written in path.parent.glob(f"{path.name}*"):  # with its external data
                written.unlink()
            raise NasError(
                f"{path.name}: onnxruntime's logits differ from PyTorch's by {difference:.1e} of the greatest"
            )


def load(path: Path, threads: int = 0) -> Callable[[Tensor], Tensor]:
    """A function that runs the file on CPUs by onnxruntime; threads: 0 for all cores."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


EXPORTERS.register(NAME)(Exporter(".onnx", write, "ONNX graph, checked with onnxruntime", load=load))
