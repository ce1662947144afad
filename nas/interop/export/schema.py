"""The JSON Schema (draft 2020-12) of our configs, made from the registries of parts and their options.

`config.schema.json` next to this file is the schema for the parts of this release, for editors and other programs. A test
checks that it is up to date; `python -m nas.interop.export.schema` writes it again. `Architecture.from_yaml` and `nas.cost_of`
check what a schema can't express: whether parts fit together, whether groups divide widths.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from nas.networks.architecture import MAX_DEPTH, MAX_NAME, MAX_RESOLUTION, MAX_STAGES, VERSION
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS, Part
from nas.networks.blocks._base import MAX_OPTION
from nas.utils import limits
from nas.utils.registry import Registry

FILE = Path(__file__).with_name("config.schema.json")
ID = f"urn:nas:config:{VERSION}"


def config_schema() -> dict[str, object]:
    """The schema of a config, with every registered part."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Architecture of a network",
        "type": "object",
        "required": ["resolution", "stem", "stages", "head"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": VERSION},
            "name": {"type": "string", "maxLength": MAX_NAME},
            "resolution": {**_whole(MAX_RESOLUTION), "description": "Side of the square images, in pixels."},
            "channels": {**_whole(limits.CHANNELS), "description": "Of the images: 3, or 1 for grey."},
            "norm_eps": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "stem": {"$ref": "#/$defs/stem"},
            "stages": {"type": "array", "minItems": 1, "maxItems": MAX_STAGES, "items": {"$ref": "#/$defs/stage"}},
            "head": {"$ref": "#/$defs/head"},
            "provenance": {"type": "object", "description": "Where the network comes from."},
        },
        "$defs": {
            "stage": {
                "type": "object",
                "required": ["branch", "depth", "width"],
                "additionalProperties": False,
                "properties": {
                    "depth": {**_whole(MAX_DEPTH), "description": "Blocks."},
                    "width": {**_whole(limits.WIDTH), "description": "Channels of the blocks' output."},
                    "stride": {**_whole(limits.STRIDE), "description": "Of the first block."},
                    "branch": {"$ref": "#/$defs/branch"},
                    "shortcut": {"$ref": "#/$defs/shortcut"},
                    "merge": {"$ref": "#/$defs/merge"},
                },
            },
            "branch": _parts(BRANCHES),
            "shortcut": _parts(SHORTCUTS),
            "merge": _parts(MERGES),
            "stem": _parts(STEMS),
            "head": _parts(HEADS),
        },
    }


def _parts(registry: Registry[Any]) -> dict[str, object]:
    """The schema of a registry's kinds: a name alone, or a mapping with options."""
    kinds: list[dict[str, object]] = [{"enum": list(registry)}]
    for name, kind in registry.items():
        options = {field.name: _option(field) for field in dataclasses.fields(kind)}
        about = " ".join((kind.__doc__ or name).split("\n\n")[0].split())
        kinds.append(
            {
                "type": "object",
                "description": about,
                "required": ["kind"],
                "additionalProperties": False,
                "properties": {"kind": {"const": name}, **options},
            }
        )
    return {"anyOf": kinds}


def _option(field: dataclasses.Field[Part]) -> dict[str, object]:
    """The values that `Part` allows for an option."""
    among, least, most = (field.metadata[key] for key in ("among", "minimum", "maximum"))
    default = {"default": field.default}
    if among:
        return {"enum": list(among), **default}
    whole = isinstance(field.default, int)
    kind: dict[str, object] = {"type": "integer" if whole else "number", **default}
    if least is None:
        return kind | ({} if whole else {"minimum": -MAX_OPTION, "maximum": MAX_OPTION})
    return kind | {"minimum": least, "maximum": MAX_OPTION if most is None else most}


def _whole(most: int) -> dict[str, object]:
    return {"type": "integer", "minimum": 1, "maximum": most}


def as_text() -> str:
    return json.dumps(config_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_text(), encoding="utf-8")
