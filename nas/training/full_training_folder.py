"""The folder of a full training: which training may resume in it, and the files that it holds.

`plan.json` says what is trained; only the same training may resume there. `config.yaml` is its network. `weights.safetensors`
and `result.json` are written at the end. Each file is written atomically.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.data import Dataset, Streamed
from nas.data.streaming import LAW as STREAMED
from nas.data.training_data import StreamedData, TrainingData
from nas.errors import NasError, UsageError, reason_of
from nas.networks.architecture import Architecture
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, RESULT
from nas.utils.files import read_json, write_json, write_text, write_with
from nas.utils.validation import Check, list_of, mapping, number, optional, require, share, text, whole

if TYPE_CHECKING:
    from torch import nn

COMPARISON = "comparison"  # the `kind` in a plan of `nas compare`, whose files have the same names
PLAN, CONFIG, WEIGHTS, LOCK = "plan.json", "config.yaml", "weights.safetensors", "train.lock"
VERSION = 1
PADDED = "padded-crop"  # of decoded images
HOW = {PADDED: "padding them (without --stream)", STREAMED: "resizing boxes of them (--stream)"}

_OF_RESULT: Mapping[str, Check] = {
    **dict.fromkeys(("test", "validation", "recipe"), mapping),
    "epochs": list_of(mapping),
    "seconds": number,
}
_OPTIONAL = {"dataset": mapping, "versions": mapping}  # results of some earlier versions lack them


def busy(folder: Path) -> str:
    """The message for a folder that is locked."""
    return f"{folder}: another process trains here; wait for it, or choose another folder with --out"


def begin(folder: Path, plan: Mapping[str, Any], architecture: Architecture) -> None:
    """Write the plan and the config, or compare the plan with the existing one; UsageError if that is of another training."""
    path = folder / PLAN
    if not path.exists():
        strangers = [name for name in (CONFIG, CHECKPOINT, WEIGHTS, RESULT) if (folder / name).exists()]
        if strangers:
            raise UsageError(
                f"{folder}: holds a {strangers[0]} that is no full training's; choose another folder with --out"
            )
        write_json(path, plan)
    begun = read_json(path)
    if is_comparison(folder):
        raise UsageError(f"{folder}: holds a comparison of `nas compare`; choose another folder with --out")
    if not isinstance(begun, dict) or begun.get("version") != VERSION:
        raise UsageError(f"{path}: not a plan of this version; choose another folder with --out")
    require(begun, {"digest": text, "recipe": mapping}, str(path))
    require(begun, dict.fromkeys(("weights", "policy"), optional(mapping)), str(path), missing=True)
    if changes := differences(begun, plan):
        raise UsageError(f"{folder}: holds another training: {'; '.join(changes)}; choose another folder with --out")
    if not (folder / CONFIG).exists():  # written after the plan: a process that died between the two can resume
        write_text(folder / CONFIG, architecture.to_yaml())


def is_comparison(folder: Path) -> bool:
    """Whether the folder's plan is that of a comparison."""
    plan = read_json(folder / PLAN)
    return isinstance(plan, dict) and plan.get("kind") == COMPARISON


def written(folder: Path) -> dict[str, Any]:
    """The folder's result; empty if there is none yet. UsageError for a malformed file."""
    path = folder / RESULT
    result = read_json(path)
    if not isinstance(result, dict):
        return {}
    require(result, _OF_RESULT, str(path))
    require(result, _OPTIONAL, str(path), missing=True)
    require(result["test"], {"accuracy": share, "standard_error": number, "images": whole()}, f"{path}: test")
    require(result["validation"], {"accuracy": share}, f"{path}: validation")
    require(result["recipe"], {"epochs": whole(1)}, f"{path}: recipe")
    return result


def write_weights(folder: Path, architecture: Architecture, network: nn.Module, result: Mapping[str, Any]) -> None:
    """The weights as safetensors; the metadata describe network, data and test accuracy."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    dataset = result["dataset"]
    metadata = {
        "format": "pt",
        "architecture": json.dumps(architecture.to_dict()),
        "digest": result["digest"],
        "dataset": dataset["name"],
        "dataset_fingerprint": dataset["fingerprint"],
        "classes": json.dumps(dataset["classes"]),
        "mean": json.dumps(dataset["mean"]),
        "std": json.dumps(dataset["std"]),
        "test_accuracy": str(result["test"]["accuracy"]),
        "nas": result["versions"]["nas"],
    }
    write_with(folder / WEIGHTS, lambda file: file.write(save(tensors, metadata)))


def facts_of(dataset: Dataset | Streamed, data: TrainingData | StreamedData) -> dict[str, object]:
    """The result's entry on the data."""
    return {
        "name": dataset.name,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "classes": list(dataset.classes),
        "mean": list(data.mean),
        "std": list(data.std),
    }


def unreadable(checkpoint: Path, error: Exception) -> NasError:
    return NasError(f"{checkpoint}: can't be read ({reason_of(error, first_line=True)}); remove it to start over")


def differences(begun: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """The differences between two plans, in words."""
    changes = []
    if begun.get("digest") != plan["digest"]:
        changes.append(f"the network is {begun.get('digest')}, not {plan['digest']}")
    crops = begun.get("crops", PADDED)  # earlier versions had no other
    if crops != plan["crops"]:  # the fingerprints differ then too
        changes.append(f"its images are cropped by {HOW.get(crops, crops)}, not by {HOW[plan['crops']]}")
    elif begun.get("fingerprint") != plan["fingerprint"]:
        changes.append(f"the data are others, of {begun.get('dataset')}")
    first, now = ((p.get("weights") or {}) for p in (begun, plan))
    if first.get("fingerprint") != now.get("fingerprint"):
        changes.append(
            f"it started from {first.get('source', 'random weights')}, not {now.get('source', 'random weights')}"
        )
    old, new = ({"seed": p.get("seed"), "precision": p.get("precision"), **recipe_of(p)} for p in (begun, plan))
    changes += [f"{name} is {old.get(name)}, not {value}" for name, value in new.items() if old.get(name) != value]
    if begun.get("policy") != plan["policy"]:
        changes.append(f"its pieces learn as {begun.get('policy') or 'one'}, not {plan['policy'] or 'one'}")
    if begun.get("validation") != plan["validation"]:
        changes.append("the validation split is another")
    return changes


def recipe_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's recipe, with the defaults for fields that an earlier version did not have; empty if malformed."""
    try:
        return Recipe.from_dict(plan["recipe"]).to_dict()
    except (AttributeError, KeyError, TypeError, UsageError):
        return {}
