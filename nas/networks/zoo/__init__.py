"""Published networks by name, as architectures. Their data and the papers' numbers are in the YAML files of this folder.

A family gives what its networks share: `paper`, `resolution`, `classes`, `stem`, `head` (default: linear), `norm_eps` and `stages`.
A network gives the rest, and may override everything but the paper. In the description of stages, a list has one value per stage and
anything else is for all stages; options of the branch are next to depth and width. In place of widths, depths and groups a RegNet has
`regnet`, the arguments of `nas.networks.regnet_design.quantised_linear`. `published` quotes the paper, torchvision or timm; the tests
compare its numbers with ours. `aliases` are other names of the same network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

from nas.networks.architecture import Architecture
from nas.networks.regnet_design import quantised_linear
from nas.utils.registry import Registry
from nas.utils.yaml_text import parse_yaml

Entries: TypeAlias = Mapping[str, Any]  # as the YAML files have them

_FILES = ("resnet", "cifar", "efficientnet", "regnet", "convnext")
_NETWORK = ("resolution", "classes", "stem", "head", "norm_eps")
_STAGE = ("depth", "width", "stride", "shortcut", "merge")  # all other keys of a stage are options of its branch


@dataclass(frozen=True, slots=True)
class _Entry:
    """One network of the zoo: its entries override those of its family."""

    name: str
    paper: str
    published: str
    network: Entries
    stages: Entries

    @classmethod
    def make(cls, name: str, family: Entries, entries: Entries) -> _Entry:
        merged = {**{key: family[key] for key in _NETWORK if key in family}, **family["stages"], **entries}
        stages = {key: merged[key] for key in merged if key not in (*_NETWORK, "published", "aliases")}
        network = {key: merged[key] for key in _NETWORK if key in merged}
        return cls(name, family["paper"], merged["published"], network, stages)

    def architecture(self) -> Architecture:
        stages = dict(self.stages)
        if "regnet" in stages:
            stages |= _quantised(**stages.pop("regnet"))
        number = max(len(value) for value in stages.values() if isinstance(value, list))
        network = {key: value for key, value in self.network.items() if key != "classes"}
        network["head"] = {"kind": "linear", "classes": self.network["classes"], **network.get("head", {})}
        network |= {"name": self.name, "stages": [_stage(stages, k) for k in range(number)]}
        return Architecture.from_dict(network, f"zoo: {self.name}").canonical()


def _quantised(depth: int, w0: int, wa: float, wm: float, group_width: int) -> dict[str, list[int]]:
    """Options of the stages of a RegNet, as lists with one value per stage."""
    stages = quantised_linear(depth, w0, wa, wm, group_width)
    return {
        "depth": [stage.depth for stage in stages],
        "width": [stage.width for stage in stages],
        "group_width": [stage.group_width for stage in stages],
        "cardinality": [stage.width // stage.group_width for stage in stages],
    }


def _stage(options: Entries, k: int) -> Entries:
    """The k-th stage: the k-th value of each list, and the values that aren't lists."""
    stage = {key: value[k] if isinstance(value, list) else value for key, value in options.items()}
    branch = {key: value for key, value in stage.items() if key not in (*_STAGE, "branch")}
    return {"branch": {"kind": stage["branch"], **branch}, **{key: stage[key] for key in _STAGE if key in stage}}


@cache
def _families() -> Entries:
    """Families of all files, in the order of the files."""
    folder = files("nas.networks.zoo")
    texts = {name: (folder / f"{name}.yaml").read_text(encoding="utf-8") for name in _FILES}
    read: list[Any] = [parse_yaml(text, f"{name}.yaml") for name, text in texts.items()]
    return {name: family for families in read for name, family in families.items()}


@cache
def _entries() -> Registry[_Entry]:
    registry: Registry[_Entry] = Registry("network", "`nas profile --list` lists all")
    for family in _families().values():
        for name, entries in family["networks"].items():
            registry.register(name)(_Entry.make(name, family, entries))
    return registry


@cache
def _aliases() -> Mapping[str, str]:
    networks = (pair for family in _families().values() for pair in family["networks"].items())
    return {alias: name for name, entries in networks for alias in entries.get("aliases", ())}


def _find(name: str) -> _Entry:
    spelled = name.strip().lower().replace("-", "_") if isinstance(name, str) else name
    return _entries().find(_aliases().get(spelled, spelled))


def names() -> list[str]:
    """Names of all networks, by family; aliases left out."""
    return list(_entries())


def get(name: str) -> Architecture:
    """The canonical architecture of a published network, at the resolution and with the classes of its paper.

    `wrn-28-10` and `wrn_28_10` are one name. UsageError with the nearest name if there is no such network.
    """
    return _find(name).architecture()


def published(name: str) -> str:
    """The numbers that the paper publishes, or that torchvision or timm publish with their weights."""
    return _find(name).published


def about(name: str) -> str:
    """One line: the paper, and what is published."""
    entry = _find(name)
    return f"{entry.paper}; {entry.published}"
