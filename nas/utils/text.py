"""Numbers, durations and paths as text, the same on pages and in terminals to the digit."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from nas.errors import UsageError

Say = Callable[[str], None]  # prints one line to the user

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


def format_ms(milliseconds: float) -> str:
    """Three significant digits: `0.0412 ms`, `3.21 ms`, `128 ms`; whole milliseconds above that."""
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
    """A setting as the user would write it: 0.3 for 0.30000000000000004; yes or no for a bool."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def points(share: float, other: float) -> float:
    """share - other in percentage points: the difference of the two percentages as `format_percent` rounds them."""
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
    """Seconds of a duration such as `90`, `90s`, `30m`, `1.5h` or `2d`. UsageError for anything else, and for 0."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)", text.strip().lower())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"{text!r} is not a duration above 0 in seconds, or as 90s, 30m, 2h or 1d")
    return seconds


def shown(path: Path) -> str:
    """A path as typed from the current folder, quoted if a shell needs it."""
    try:
        text = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        text = str(path)
    if text.isprintable():
        return shlex.quote(text)
    bytes_ = os.fsencode(text).replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    return "$'" + "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in bytes_) + "'"


# Characters that control a terminal: C0 and C1 controls other than tab and line break, DEL, changes of the writing
# direction; and surrogates, which can't be encoded.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters escaped, so that a name can't move the terminal's cursor or hide a line.

    A carriage return, an escape or a change of writing direction becomes `\\x0d`, `\\x1b`, `\\u202e`; tabs and line breaks stay.
    """
    return _COMMANDS.sub(lambda match: _escaped(ord(match[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cell(value: object) -> object:
    """A value for a spreadsheet's cell: a text that would be computed as a formula gets an apostrophe in front.

    Numbers stay numbers. "CSV injection", OWASP: formulas begin with = + - @, a tab or a line break.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # Python's csv writer doesn't quote "\r"
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text
