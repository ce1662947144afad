"""Plotly's script with no more in it than the page's charts need: 1.1 MB of 4.8 MB, and a third of the time until it has run.

Python's Plotly ships the script with all of its 48 kinds of traces, maps and 3-D scenes. In the file, each part is a
definition `var NAME=W((exports, module) => {...})` that runs when `NAME()` is called first, and one list at its end calls
the parts that register a kind of trace. Without the kinds that no chart has in the list, what the others never call is left
out. That is sound for a file that was looked at, and tested in a browser; any other is taken as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

KNOWN = frozenset({"3b6e15d45dbb7fca5bd2094291e961ddc5472cd887009e6009a56dab668d721f"})  # SHA-256 of plotly.js 4.1.1
TRACES = frozenset(
    {"scatter", "bar", "heatmap"}
)  # what the charts of this package are made of; scatter is always there

_NAME = r"[A-Za-z_$][\w$]*"
_PART = re.compile(rf"(?<=\}}\);)var ({_NAME})=W\(")
_MODULE = re.compile(rf"({_NAME})=Ea\(")  # ES modules, between the parts
_CALL = re.compile(rf"(?<![\w$.])({_NAME})\(\)")
_REGISTERED = re.compile(rf"\.register\(\[((?:{_NAME}\(\),?)+)\]\)")
_ALIAS = re.compile(rf"\.exports=({_NAME})\(\)\}}\)")
_KIND = re.compile(r'moduleType:"trace",name:"(\w+)"')
_END = re.compile(rf";return {_NAME}\(\);\}}\)\(\);")

# V8 reads a function that is an argument twice, unless a bracket says that it is called at once.
_OPENING = ('typeof self !== "undefined" ? self : this, () => {', 'typeof self !== "undefined" ? self : this, (() => {')
_CLOSING = ("return Plotly;\n}));", "return Plotly;\n})));")


def script(kinds: Iterable[str] = ()) -> str:
    """The script that draws traces of these kinds: the whole one if there are others than `TRACES` among them."""
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
    """The file without what is only of traces that are not in `TRACES`. ValueError if it is not made as expected."""
    found = list(_PART.finditer(text))
    end = _END.search(text, found[-1].start()) if found else None
    if end is None:
        raise ValueError("no parts")
    cuts = [*(match.start() for match in found), end.start() + 1]
    parts = [text[start:stop] for start, stop in pairwise(cuts)]
    head, tail = text[: cuts[0]], text[cuts[-1] :]
    place = {match[1]: k for k, match in enumerate(found)}
    place |= {name: k for k, part in enumerate(parts) for name in _MODULE.findall(part)}
    where = next((k for k, part in enumerate(parts) if _REGISTERED.search(part)), None)
    if where is None:
        raise ValueError("no list of traces")
    parts[where] = _REGISTERED.sub(lambda found: _fewer(found[1], parts, place), parts[where])

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
    """The list of registered parts, those of `TRACES` alone. Each stands for another, which says what it is."""
    kept = []
    for call in calls.split(","):
        alias = _ALIAS.search(parts[place[call.removesuffix("()")]])
        kind = _KIND.search(parts[place[alias[1]]]) if alias else None
        if kind and kind[1] in TRACES:
            kept.append(call)
    return f".register([{','.join(kept)}])"
