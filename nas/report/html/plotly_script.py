"""Plotly's script reduced to what the page's charts need: 1.1 MB of 4.8 MB, and a third of the start-up time.

Python's Plotly ships the script with all 48 kinds of traces, maps and 3-D scenes. In the file, each part is a definition
`var NAME=W((exports, module) => {...})` that runs at the first call of `NAME()`, and one list at the end calls the parts
that register a kind of trace. The kinds that no chart uses are removed from the list, then all parts that nothing calls any
more. That is safe only for a version of the file that was inspected and tested in a browser; any other is used as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

KNOWN = frozenset({"3b6e15d45dbb7fca5bd2094291e961ddc5472cd887009e6009a56dab668d721f"})  # SHA-256 of plotly.js 4.1.1
TRACES = frozenset({"scatter", "bar", "heatmap"})  # the kinds that this package's charts use

_NAME = r"[A-Za-z_$][\w$]*"
_PART = re.compile(rf"(?<=\}}\);)var ({_NAME})=W\(")
_MODULE = re.compile(rf"({_NAME})=Ea\(")  # ES modules, between the parts
_CALL = re.compile(rf"(?<![\w$.])({_NAME})\(\)")
_REGISTERED = re.compile(rf"\.register\(\[((?:{_NAME}\(\),?)+)\]\)")
_ALIAS = re.compile(rf"\.exports=({_NAME})\(\)\}}\)")
_KIND = re.compile(r'moduleType:"trace",name:"(\w+)"')
_END = re.compile(rf";return {_NAME}\(\);\}}\)\(\);")

# V8 parses a function argument twice unless it is in parentheses.
_OPENING = ('typeof self !== "undefined" ? self : this, () => {', 'typeof self !== "undefined" ? self : this, (() => {')
_CLOSING = ("return Plotly;\n}));", "return Plotly;\n})));")


def script(kinds: Iterable[str] = ()) -> str:
    """The script that draws traces of these kinds: the whole one if any of them is not in `TRACES`."""
    return _small() if TRACES.issuperset(kinds) else _whole()


def _whole() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@lru_cache(maxsize=1)
def _small() -> str:
    whole = _whole()
    known = hashlib.sha256(whole.encode()).hexdigest() in KNOWN
    return reduced(whole) if known else whole


def reduced(text: str) -> str:
    """The file without the parts that only traces outside `TRACES` need. ValueError if its structure is not as expected."""
    definitions = list(_PART.finditer(text))
    end = _END.search(text, definitions[-1].start()) if definitions else None
    if end is None:
        raise ValueError("no parts")
    cuts = [*(match.start() for match in definitions), end.start() + 1]
    parts = [text[start:stop] for start, stop in pairwise(cuts)]
    head, tail = text[: cuts[0]], text[cuts[-1] :]
    place = {match[1]: k for k, match in enumerate(definitions)}
    place |= {name: k for k, part in enumerate(parts) for name in _MODULE.findall(part)}
    where = next((k for k, part in enumerate(parts) if _REGISTERED.search(part)), None)
    if where is None:
        raise ValueError("no list of traces")
    parts[where] = _REGISTERED.sub(lambda definitions: _fewer(definitions[1], parts, place), parts[where])

    waiting = _called(head, place) | _called(tail, place)
    kept: set[int] = set()
    while waiting:
        kept.add(here := waiting.pop())
        waiting |= _called(parts[here], place) - kept
    small = "".join([head, *(part for k, part in enumerate(parts) if k in kept), tail])
    return small.replace(*_OPENING).replace(*_CLOSING) if _OPENING[0] in small and _CLOSING[0] in small else small


def _called(text: str, place: dict[str, int]) -> set[int]:
    return {place[name] for name in _CALL.findall(text) if name in place}


def _fewer(calls: str, parts: list[str], place: dict[str, int]) -> str:
    """The list of registered parts, reduced to `TRACES`. Each part is an alias of another, which holds the name of its kind."""
    kept = []
    for call in calls.split(","):
        alias = _ALIAS.search(parts[place[call.removesuffix("()")]])
        kind = _KIND.search(parts[place[alias[1]]]) if alias else None
        if kind and kind[1] in TRACES:
            kept.append(call)
    return f".register([{','.join(kept)}])"
