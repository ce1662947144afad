"""Reads weights: files of safetensors or of `torch.save`, and torchvision's downloads."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import NasError, UsageError, reason_of
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.weights.checkpoints import load, state_of, unwrapped
from nas.utils import limits
from nas.utils.registry import did_you_mean
from nas.utils.validation import number, share, text

TORCHVISION = "torchvision:"
PICKLED = (".pt", ".pth", ".bin", ".tar", ".ckpt")


@dataclass(frozen=True, slots=True)
class Weights:
    """Named tensors, their source, and the network that they were trained in if it is known.

    fingerprint: SHA-256 over names, shapes, types and bytes; it does not depend on the file format. training: facts from files
    of this package, as far as they are plausible: `accuracy` on the test images, and the `dataset` with its name, fingerprint,
    classes, mean and std. notes: what was chosen from a checkpoint, or left out.
    """

    source: str
    tensors: Mapping[str, Tensor]
    fingerprint: str
    architecture: Architecture | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        source: str,
        tensors: Mapping[Any, Any],
        architecture: Architecture | None = None,
        training: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> Weights:
        """Weights by the network's own names (`unwrapped`). UsageError unless `tensors` maps names to finite tensors."""
        tensors, more = unwrapped(tensors)
        if not tensors:
            raise UsageError(f"{source}: holds no weights")
        digest = hashlib.sha256()
        for name in sorted(tensors, key=str):
            tensor = tensors[name]
            if not isinstance(tensor, Tensor):
                raise UsageError(f"{source}: {name!r:.200} is no tensor; weights are a state_dict, tensors by name")
            if not isinstance(name, str):
                raise UsageError(
                    f"{source}: a tensor's name is {name!r:.200}; weights are a state_dict, tensors by name"
                )
            if (
                tensor.layout != torch.strided
                or tensor.device.type == "meta"
                or tensor.is_quantized
                or tensor.is_nested
            ):
                raise UsageError(
                    f"{source}: {name!r:.200} is sparse, quantised or without data; weights are plain tensors"
                )
            # With strides of 0 a few bytes represent any number of elements, which would be copied below.
            if tensor.numel() > tensor.untyped_storage().nbytes():
                raise UsageError(f"{source}: {name!r:.200} says {tensor.numel():,} elements and holds fewer")
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise UsageError(f"{source}: {reason_of(name, 200)} holds NaN or infinite values")
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode(errors="surrogatepass"))
            digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return cls(source, dict(tensors), digest.hexdigest(), architecture, training or {}, (*notes, *more))

    def described(self) -> dict[str, str]:
        """Plain data that identify the weights."""
        return {"source": self.source, "fingerprint": self.fingerprint}


def read(source: str, *, progress: bool = False) -> Weights:
    """The weights that `source` names.

    `torchvision:resnet50`: torchvision's best ImageNet weights of the network of this name, or those of one name
    ("torchvision:ResNet50_Weights.IMAGENET1K_V1"), downloaded into PyTorch's cache if they aren't there. Otherwise the path
    of a file: .safetensors, or one of `torch.save` (.pt, .pth, .bin, .tar, .ckpt) with a state_dict or a checkpoint that contains
    one (`nas.networks.weights.checkpoints`); only its tensors are loaded.

    progress: whether a download shows a progress bar. UsageError if there are no such weights.
    NasError if they can't be downloaded or read.
    """
    if source.startswith(TORCHVISION):
        return _torchvision(source, progress)
    path = Path(source)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise UsageError(f"weights {source}: {what}; a .safetensors or .pth file, or torchvision:NAME")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix in PICKLED:
        return _pickled(path)
    raise UsageError(f"weights {source}: unknown kind of file; known: .safetensors, {', '.join(PICKLED)}")


def _torchvision(source: str, progress: bool) -> Weights:
    from torchvision import models

    wanted = source.removeprefix(TORCHVISION)
    known = [name for name in models.list_models(models) if name in zoo.names()]
    if "." in wanted:
        name = next((name for name in known if wanted.startswith(models.get_model_weights(name).__name__ + ".")), "")
        entry = (
            next((entry for entry in models.get_model_weights(name) if str(entry) == wanted), None) if name else None
        )
    else:
        name = wanted.lower().replace("-", "_")
        entry = models.get_model_weights(name).DEFAULT if name in known else None
    if entry is None:
        raise UsageError(
            f"weights {source}: torchvision has no such weights of a network that we have{did_you_mean(name, known)}; "
            f"known: {', '.join(known)}"
        )
    try:
        tensors = entry.get_state_dict(progress=progress, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash a RuntimeError
        raise NasError(f"weights {source}: can't be downloaded from {entry.url}: {reason_of(error)}") from error
    return Weights.of(f"{TORCHVISION}{entry}", tensors, zoo.get(name))


def _safetensors(path: Path) -> Weights:
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # of safetensors, or of PyTorch for unknown types and shapes
        raise NasError(f"{path}: can't be read as safetensors: {reason_of(error)}") from error
    return Weights.of(str(path), tensors, _trained_in(metadata, path), _training(metadata))


def _trained_in(metadata: Mapping[str, str], path: Path) -> Architecture | None:
    """The architecture in a file that this package has written."""
    if "architecture" not in metadata:
        return None
    try:
        return Architecture.from_dict(json.loads(metadata["architecture"]), str(path))
    except (ValueError, RecursionError, UsageError):
        return None  # another program's entry of this name


def _training(metadata: Mapping[str, str]) -> dict[str, object]:
    """Facts on the training from files of this package; other programs' entries of these names are ignored."""

    def read(key: str, fits: Callable[[Any], bool]) -> dict[str, Any]:
        try:
            value = json.loads(metadata[key])
        except (KeyError, ValueError, RecursionError):
            return {}
        return {key: value} if fits(value) else {}

    def numbers(value: Any) -> bool:
        return isinstance(value, list) and not any(map(number, value))

    names = {
        name: metadata[key]
        for name, key in (("name", "dataset"), ("fingerprint", "dataset_fingerprint"))
        if key in metadata
    }
    classes = read("classes", lambda value: isinstance(value, list) and not any(map(text, value)))
    dataset = {**names, **classes, **read("mean", numbers), **read("std", numbers)}
    accuracy = read("test_accuracy", lambda value: not share(value))
    return {
        **({"accuracy": float(accuracy["test_accuracy"]), "accuracy_on": "test"} if accuracy else {}),
        **({"dataset": dataset} if dataset else {}),
    }


def _require_plain(path: Path) -> None:
    """ValueError for an archive that unpacks to far more than its size: `torch.save` does not compress."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > limits.WEIGHTS_FACTOR * path.stat().st_size:
            raise ValueError(f"it unpacks to {unpacked:,} bytes, which no file of weights of its size does")


def _pickled(path: Path) -> Weights:
    try:
        _require_plain(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise NasError(f"{path}: can't be read as weights: {reason_of(error)}") from error
    state, notes = state_of(load(path), str(path))
    return Weights.of(str(path), state, notes=notes)
