"""How numbers, networks and times are written wherever people read them, so that a page and a terminal agree to the digit."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture, Stage
    from nas.networks.blocks import Branch, Part, Shortcut
    from nas.spaces.knobs import Value
    from nas.runs.records import Estimate

_PREFIXES = ("", "k", "M", "G", "T")


def format_count(n: int) -> str:
    """A count to four significant digits with its SI prefix: `25.56 M`, `272.5 k`, `4.089 G`; exact below 10,000."""
    if n < 1000:
        return str(n)
    mantissa, exponent = f"{n:.3e}".split("e")  # rounds first, so that 999,990 is 1.000 M and never 1000 k
    group = min(int(exponent) // 3, len(_PREFIXES) - 1)
    shift = int(exponent) - 3 * group
    return f"{float(mantissa) * 10**shift:.{max(3 - shift, 0)}f} {_PREFIXES[group]}"


def counted(n: float, noun: str) -> str:
    """`1 core`, `0.5 cores`, `0 GPUs`."""
    return f"{int(n) if n == int(n) else n} {noun}{'' if n == 1 else 's'}"


def format_estimate(estimate: Estimate) -> str:
    """A mean share, its standard error and its number of seeds: `93.12 ± 0.21 % (3 seeds)`."""
    return f"{format_percent(estimate.mean)} ± {format_percent(estimate.std_error)} % ({counted(estimate.n, 'seed')})"


def format_ms(milliseconds: float) -> str:
    """Three significant digits: `0.0412 ms`, `3.21 ms`, `128 ms`; exact ones above that."""
    if milliseconds >= 99.95:
        return f"{milliseconds:,.0f} ms"
    return f"{milliseconds:#.3g} ms"


def format_price(name: str, value: float) -> str:
    """A cost by its objective's name: milliseconds or a count; a dash where it was not measured."""
    if name == "latency_ms":
        return "–" if math.isnan(value) else format_ms(value)
    return format_count(int(value))


def format_bytes(n: int) -> str:
    """1536 -> "1.5 KiB": three significant digits or more, binary prefixes."""
    size, unit = float(n), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1000 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.{0 if size >= 100 or unit == 'bytes' else 1}f} {unit}"


def format_percent(share: float) -> str:
    """A share in [0, 1] in percent, two decimals, without the sign: 0.9312 is `93.12`."""
    return f"{100 * share:.2f}"


def format_setting(value: object) -> str:
    """A setting as it was meant: 0.3 where a product of floats is 0.30000000000000004; yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def points(share: float, other: float) -> float:
    """How many percentage points `share` lies above `other`, as the difference of the two as they are written."""
    return round(float(format_percent(share)) - float(format_percent(other)), 2)


def format_seconds(seconds: float) -> str:
    """A duration in its two largest units: `12 s`, `3 min 20 s`, `2 h 5 min`, `1 d 3 h`."""
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{whole} s"


def parse_seconds(text: str) -> float:
    """A duration as people write it, in seconds: `90`, `90s`, `30m`, `1.5h`, `2d`. UsageError for anything else, or none at all."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)", text.strip().lower())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"{text!r} is not a duration above 0 in seconds, or as 90s, 30m, 2h or 1d")
    return seconds


def describe(architecture: Architecture) -> str:
    """A network in one line: depth × width of each stage, what the stages share, the stem.

    `3×256 (32×4d), 4×512 (32×8d); bottleneck, projection shortcut; imagenet stem 64`. What differs between stages stands
    in brackets, 32×4d is cardinality × group width, and a stride is said where it isn't the usual one (1 in the first
    stage, 2 in the others). Options without effect are left out, as are words that are at their default.
    """
    network, shortcut = _canonical(architecture)
    mixed = len({stage.branch.kind for stage in network.stages}) > 1
    aspects = [_aspects(stage, mixed) for stage in network.stages]
    if shortcut:
        for found in aspects:
            found["shortcut"] = f"{_said(shortcut)} shortcut"
    shared = dict(pair for found in aspects for pair in found.items())
    shared = {key: text for key, text in shared.items() if all(found.get(key, text) == text for found in aspects)}
    stages = []
    for number, (stage, found) in enumerate(zip(network.stages, aspects, strict=True)):
        stride = "" if stage.stride == (2 if number else 1) else f"/{stage.stride}"
        own = ", ".join(filter(None, (text for key, text in found.items() if key not in shared)))
        stages.append(f"{stage.depth}×{stage.width}{stride}" + (f" ({own})" if own else ""))
    ends = [_end(network.stem, f"stem {network.stem.width}", {"width"})]
    if (head := _end(network.head, "head", {"classes"})) != "linear head":
        ends.append(head)
    if "norm_eps" in (data := network.to_dict()):  # only where it is not the usual one
        ends.append(f"norm eps {data['norm_eps']:g}")
    return "; ".join(filter(None, (", ".join(stages), ", ".join(filter(None, shared.values())), *ends)))


def describe_stages(architecture: Architecture) -> list[tuple[str, str]]:
    """What a stage's blocks are and what is around them, a pair a stage: `("bottleneck 32×4d", "projection shortcut")`."""
    network, shortcut = _canonical(architecture)
    aspects = [_aspects(stage, mixed=True) for stage in network.stages]
    if shortcut:
        for found in aspects:
            found["shortcut"] = f"{_said(shortcut)} shortcut"
    return [(found["block"], ", ".join(filter(None, (found["shortcut"], found["merge"])))) for found in aspects]


def _end(part: Part, noun: str, aside: set[str]) -> str:
    """A stem or a head by its kind and the options that are not at their defaults."""
    said = (f"{name} {value}" for name, value in part.said().items() if name not in {"kind", *aside})
    return " ".join(filter(None, (part.kind, noun, *said)))


def _aspects(stage: Stage, mixed: bool) -> dict[str, str]:
    """What can be said of a stage beside its size; an aspect that makes no difference in this stage is missing.

    `mixed`: other stages have other kinds of blocks, so that the block's options belong to its name.
    """
    found = {"block": stage.branch.kind}
    options = {field.name: field for field in dataclasses.fields(stage.branch)}
    if {"cardinality", "group_width"} <= options.keys():
        groups, group_width = (getattr(stage.branch, name) for name in ("cardinality", "group_width"))
        found["groups"] = f"{groups}×{group_width}d"
        del options["cardinality"], options["group_width"]
    for name, field in options.items():
        if _matters(stage.branch, name, stage.stride):
            found[name] = _option(name, getattr(stage.branch, name), field.default)
    if mixed:
        found = {"block": " ".join(filter(None, found.values()))}
    if not stage.merge.uses_shortcut:
        found["shortcut"] = "no shortcut"
    else:
        found["shortcut"] = f"{_said(stage.shortcut)} shortcut"
    found["merge"] = "" if stage.merge.kind in ("add", "none") else f"{_said(stage.merge)} merge"
    return found


@lru_cache(maxsize=64)  # a network is described in a line and by stages, one after the other
def _canonical(architecture: Architecture) -> tuple[Architecture, Shortcut | None]:
    network = architecture.canonical()
    return network, _common_shortcut(network)


def _common_shortcut(network: Architecture) -> Shortcut | None:
    """The kind that, taken in every stage, makes this network: all kinds but one are identity where the shapes agree."""
    for shortcut in dict.fromkeys(stage.shortcut for stage in network.stages):
        stages = tuple(dataclasses.replace(stage, shortcut=shortcut) for stage in network.stages)
        if dataclasses.replace(network, stages=stages).canonical() == network:
            return shortcut if all(stage.merge.uses_shortcut for stage in network.stages) else None
    return None


def _said(part: Part) -> str:
    options = (_option(name, value, None) for name, value in part.said().items() if name != "kind")
    return " ".join((part.kind.replace("_", "-"), *options))


@lru_cache(maxsize=1024)  # the networks of a space have few kinds of branches
def _matters(branch: Branch, name: str, stride: int) -> bool:
    """Whether another word in this option would make another branch."""
    field = next(field for field in dataclasses.fields(branch) if field.name == name)
    others = [word for word in field.metadata["among"] if word != getattr(branch, name)]
    same = branch.canonical(stride)
    return not others or any(dataclasses.replace(branch, **{name: word}).canonical(stride) != same for word in others)


def _option(name: str, value: Value, default: object) -> str:
    if (name, value) == ("order", "pre"):
        return "pre-activated"
    plain = value == default and (isinstance(value, (str, float)) or name == "experts")
    return "" if plain else f"{name.replace('_', ' ')} {value}"


def shown(path: Path) -> str:
    """A path as one would type it from the current folder, quoted if a shell needs it."""
    try:
        text = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        text = str(path)
    if text.isprintable():
        return shlex.quote(text)
    bytes_ = os.fsencode(text).replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    return "$'" + "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in bytes_) + "'"


# What a terminal obeys instead of showing it: C0 and C1 controls but for tab and line break, DEL, and what turns the
# direction of writing around or can't be encoded.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with everything that would command a terminal written out: a name can't move the cursor or hide a line.

    A carriage return, an escape or a change of writing direction becomes `\\x0d`, `\\x1b`, `\\u202e`; tabs and line breaks stay.
    """
    return _COMMANDS.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cell(value: object) -> object:
    """A value as a spreadsheet may have it: a text that one would take for a formula begins with an apostrophe instead.

    Numbers stay numbers. "CSV injection", OWASP: a cell that begins with = + - @, a tab or a line break is computed.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # which Python's writer would not quote
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text
