"""Formats of an exported network (`EXPORTERS`): a name, the suffix of its files, and what makes the text.

Adding a format is one entry. A text holds everything that building the network takes, and `provenance`: where it comes
from, as plain data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from nas.architecture import Architecture
from nas.registry import Registry

Provenance: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exporter:
    """A format: the `suffix` of its files, with the dot, and the text of a network with its provenance."""

    suffix: str
    text: Callable[[Architecture, Provenance], str]

    def __call__(self, architecture: Architecture, provenance: Provenance) -> str:
        return self.text(architecture, provenance)


# What JSON lets stand in a string and YAML takes for a line break or refuses. (Escaping all but ASCII is no way out: JSON
# writes an emoji as two escapes, which YAML reads as two broken characters.)
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")

EXPORTERS: Registry[Exporter] = Registry("format")


def as_yaml(architecture: Architecture, provenance: Provenance) -> str:
    """The config that `Architecture.from_yaml` reads, with the provenance behind it."""
    tail = yaml.dump({"provenance": _plain(provenance)}, Dumper=yaml.SafeDumper, sort_keys=False, width=120)
    return architecture.to_yaml() + tail


def as_json(architecture: Architecture, provenance: Provenance) -> str:
    """The same as JSON; `Architecture.from_yaml` reads it too."""
    data = {**architecture.to_dict(), "provenance": _plain(provenance)}
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    return _UNREADABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(provenance: Provenance) -> Any:
    """A copy in which nothing stands twice: YAML would write an alias for it, and configs are read without aliases."""
    return json.loads(json.dumps(provenance))


EXPORTERS.register("yaml")(Exporter(".yaml", as_yaml))
EXPORTERS.register("json")(Exporter(".json", as_json))
