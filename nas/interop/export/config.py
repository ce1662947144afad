"""The formats `yaml` and `json`: our config with its provenance, which `Architecture.from_yaml` and all commands read.

Their JSON Schema ships as `schema/config.schema.json` (`nas.interop.export.schema` makes it from the registries of parts).
"""

from __future__ import annotations

import json
import re

from nas.interop.export.formats import EXPORTERS, Exporter, Provenance, plain
from nas.networks.architecture import Architecture
from nas.utils.yaml_text import dump

# Characters that JSON allows in a string but YAML takes for a line break or refuses. Escaping everything but ASCII would not
# do: JSON writes an emoji as two escapes, which YAML reads as two broken characters.
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def as_yaml(architecture: Architecture, provenance: Provenance) -> str:
    """The config that `Architecture.from_yaml` reads, followed by the provenance."""
    return architecture.to_yaml() + dump({"provenance": plain(provenance)})


def as_json(architecture: Architecture, provenance: Provenance) -> str:
    """The same as JSON; `Architecture.from_yaml` reads it too."""
    data = {**architecture.to_dict(), "provenance": plain(provenance)}
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    return _UNREADABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


EXPORTERS.register("yaml")(Exporter.of_text(".yaml", as_yaml, "our config, as YAML"))
EXPORTERS.register("json")(Exporter.of_text(".json", as_json, "our config, as JSON"))
