"""Published networks by name, as architectures. Their data stand in `zoo.yaml`, the papers' numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from nas.architecture import Architecture, parse_yaml
from nas.registry import Registry

_STAGE = ("depth", "width", "stride", "shortcut", "merge")  # what else a stage has is an option of its branch


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of the zoo: what the family shares and what the network says itself."""

    name: str
    family: Mapping[str, Any]
    network: Mapping[str, Any]

    def architecture(self) -> Architecture:
        options = {**self.family["stages"], **self.network}
        options.pop("published")
        number = max(len(value) for value in options.values() if isinstance(value, list))
        return Architecture.from_dict(
            {
                "name": self.name,
                "resolution": self.family["resolution"],
                "stem": self.family["stem"],
                "stages": [_stage(options, k) for k in range(number)],
                "head": {"kind": "linear", "classes": self.family["classes"]},
            },
            f"zoo: {self.name}",
        ).canonical()


def _stage(options: Mapping[str, Any], k: int) -> dict[str, Any]:
    """The k-th stage: of each list its k-th value, of the rest the value itself."""
    own = {key: value[k] if isinstance(value, list) else value for key, value in options.items()}
    branch = {key: value for key, value in own.items() if key not in (*_STAGE, "branch")}
    return {"branch": {"kind": own["branch"], **branch}, **{key: own[key] for key in _STAGE if key in own}}


@cache
def _entries() -> Registry[_Entry]:
    registry: Registry[_Entry] = Registry("network")
    families: Any = parse_yaml((files("nas") / "zoo.yaml").read_text(encoding="utf-8"), "zoo.yaml")
    for family in families.values():
        for name, network in family["networks"].items():
            registry.register(name)(_Entry(name, family, network))
    return registry


def _find(name: str) -> _Entry:
    spelled = name.strip().lower().replace("-", "_") if isinstance(name, str) else name
    return _entries().find(spelled)


def names() -> list[str]:
    """Names of all networks, by family."""
    return list(_entries())


def get(name: str) -> Architecture:
    """The canonical architecture of a published network, at the resolution and with the classes of its paper.

    `wrn-28-10` and `wrn_28_10` are one name. UsageError with the nearest name if there is no such network.
    """
    return _find(name).architecture()


def about(name: str) -> str:
    """One line: the paper, and the numbers published there or with the weights of torchvision."""
    entry = _find(name)
    return f"{entry.family['paper']}; {entry.network['published']}"
