"""Reading and writing plain data as YAML: configs, spaces, the settings of runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from nas.errors import UsageError, reason_of
from nas.utils import limits

MAX_BYTES, MAX_DIGITS = limits.CONFIG_BYTES, limits.DIGITS


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back unchanged: no aliases; texts of several lines as blocks, so that they stay readable."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, value: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


class _Loader(yaml.SafeLoader):
    """Safe loader of plain data: no aliases (they allow "billion laughs" files), no tags, no repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _broken(event, "aliases (*name) are not read here; write the value out")
        if event.tag is not None:
            raise _broken(event, f"tags ({event.tag}) are not read here; write the plain value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _broken(key, "a key must be a word or a number")
            if key.value in seen:
                raise _broken(key, f"{key.value!r} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise _broken(node, f"a number of {len(node.value):,} characters; at most {MAX_DIGITS} are read")
        return int(super().construct_yaml_int(node))


_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
# JSON's 1e-06 is a number, as in YAML 1.2; PyYAML's YAML 1.1 wants a point before the e. The dumper needs the rule too, so that it
# quotes the text "1e6".
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _broken(at: Any, problem: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def read_text(path: Path) -> str:
    """The text of a small file; UsageError if it is missing, isn't UTF-8 or is too large for a config."""
    try:
        text = limits.read_bytes(path, MAX_BYTES, "a config").decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file: byte {error.start:,} is not UTF-8") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None


def dump(data: object, *, flow: bool | None = False, unicode: bool = False) -> str:
    """Plain data as YAML that `parse_yaml` reads back unchanged.

    flow: as PyYAML's default_flow_style; None writes the innermost lists and mappings in one line each. unicode: don't escape
    characters outside of ASCII.
    """
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, allow_unicode=unicode, width=120
    )
    return text


def parse_yaml(text: str, where: str) -> object:
    """Plain data from YAML (or JSON, which is YAML); UsageError with the line of a syntax error."""
    if len(text) > MAX_BYTES:
        raise UsageError(f"{where}: {len(text):,} characters are too many for a config (at most {MAX_BYTES:,})")
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader without aliases and tags
    except RecursionError:
        raise UsageError(f"{where}: not readable as YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = reason_of(getattr(error, "problem", None) or error)
        raise UsageError(
            f"{where}: {f'line {mark.line + 1}: ' if mark else ''}not readable as YAML: {reason}"
        ) from None
