"""The folder of a full training: what may go on in it, what it holds at the end.

`plan.json` says what is trained, and only the same training goes on there; `config.yaml` is its network. At the end come
`weights.safetensors` and `result.json`. All are written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.data.streaming import LAW as STREAMED
from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, RESULT
from nas.utils.files import read_json, write_json, write_text, write_with
from nas.utils.validation import Check, list_of, mapping, number, optional, require, share, text, whole

if TYPE_CHECKING:
    from torch import nn

COMPARISON = "comparison"  # the `kind` in the plan of `nas compare`, which trains under the same names
PLAN, CONFIG, WEIGHTS, LOCK = "plan.json", "config.yaml", "weights.safetensors", "train.lock"
VERSION = 1
PADDED = "padded-crop"  # of decoded images
HOW = {PADDED: "padding them (without --stream)", STREAMED: "resizing boxes of them (--stream)"}

_OF_RESULT: Mapping[str, Check] = {
    **dict.fromkeys(("test", "validation", "recipe"), mapping),
    "epochs": list_of(mapping),
    "seconds": number,
}
_MAY_BE = {"dataset": mapping, "versions": mapping}  # of a result; not of each earlier version's


def busy(folder: Path) -> str:
    """Why a folder's lock can't be had."""
    return f"{folder}: another process trains here; wait for it, or choose another folder with --out"


def begin(folder: Path, plan: Mapping[str, Any], architecture: Architecture) -> None:
    """Write the plan and the config, or hold the plan against the one that is there; UsageError if that is of something else."""
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
    if found := differences(begun, plan):
        raise UsageError(f"{folder}: holds another training: {'; '.join(found)}; choose another folder with --out")
    if not (folder / CONFIG).exists():  # behind the plan: a process that dies between the two can go on
        write_text(folder / CONFIG, architecture.to_yaml())


def is_comparison(folder: Path) -> bool:
    """Whether the folder's plan is that of a comparison."""
    plan = read_json(folder / PLAN)
    return isinstance(plan, dict) and plan.get("kind") == COMPARISON


def written(folder: Path) -> dict[str, Any]:
    """The folder's result; empty if there is none yet. UsageError for what no training writes."""
    path = folder / RESULT
    result = read_json(path)
    if not isinstance(result, dict):
        return {}
    require(result, _OF_RESULT, str(path))
    require(result, _MAY_BE, str(path), missing=True)
    require(result["test"], {"accuracy": share, "standard_error": number, "images": whole()}, f"{path}: test")
    require(result["validation"], {"accuracy": share}, f"{path}: validation")
    require(result["recipe"], {"epochs": whole(1)}, f"{path}: recipe")
    return result


def write_weights(folder: Path, architecture: Architecture, network: nn.Module, result: Mapping[str, Any]) -> None:
    """The weights as safetensors, with what they belong to as metadata."""
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


def differences(begun: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """What two plans differ in, in words."""
    found = []
    if begun.get("digest") != plan["digest"]:
        found.append(f"the network is {begun.get('digest')}, not {plan['digest']}")
    law = begun.get("crops", PADDED)  # the only one that earlier versions knew
    if law != plan["crops"]:  # and the data's fingerprint is of other bytes
        found.append(f"its images are cropped by {HOW.get(law, law)}, not by {HOW[plan['crops']]}")
    elif begun.get("fingerprint") != plan["fingerprint"]:
        found.append(f"the data are others, of {begun.get('dataset')}")
    first, now = ((p.get("weights") or {}) for p in (begun, plan))
    if first.get("fingerprint") != now.get("fingerprint"):
        found.append(
            f"it started from {first.get('source', 'random weights')}, not {now.get('source', 'random weights')}"
        )
    old, new = ({"seed": p.get("seed"), "precision": p.get("precision"), **recipe_of(p)} for p in (begun, plan))
    found += [f"{name} is {old.get(name)}, not {value}" for name, value in new.items() if old.get(name) != value]
    if begun.get("policy") != plan["policy"]:
        found.append(f"its pieces learn as {begun.get('policy') or 'one'}, not {plan['policy'] or 'one'}")
    if begun.get("validation") != plan["validation"]:
        found.append("the validation split is another")
    return found


def recipe_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's recipe; what an earlier version did not know of is as it was then."""
    try:
        return Recipe.from_dict(plan["recipe"]).to_dict()
    except (AttributeError, KeyError, TypeError, UsageError):
        return {}
