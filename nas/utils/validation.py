"""Checks of plain data that were read: types and sizes that the rest of the code relies on.

Files in a run folder may be damaged, edited or somebody else's. Each error names the place and says what should be there.
Constructors check their own values (architectures, recipes, budgets).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from nas.errors import UsageError, reason_of
from nas.utils import limits

Check: TypeAlias = Callable[[object], str]  # what is expected; "" if the value is that

LARGEST = 1 << 62  # of a count in a record: fits into the int64 of NumPy and of the journal's readers


def text(value: object) -> str:
    if not isinstance(value, str):
        return "a text"
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON allows and no file, page or table accepts
        return "a text of whole characters"
    return ""


def whole(low: int = 0, high: int = LARGEST) -> Check:
    def check(value: object) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"a whole number from {low:,} to {high:,}"

    return check


def number(value: object) -> str:
    """A finite float or int."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST:
        return ""
    return "" if isinstance(value, float) and math.isfinite(value) else "a finite number"


def share(value: object) -> str:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return "" if fits else "a number from 0 to 1"


def any_number(value: object) -> str:
    """A float or int, NaN and infinity included, as the losses of a network that diverged."""
    fits = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST)
    return "" if fits else "a number"


def optional(check: Check) -> Check:
    return lambda value: "" if value is None else check(value) and f"{check(value)}, or nothing"


def among(*words: str) -> Check:
    return lambda value: "" if isinstance(value, str) and value in words else f"one of {', '.join(words)}"


def mapping(value: object) -> str:
    fits = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    return "" if fits else "a mapping of words"


def list_of(check: Check, most: int = limits.CLASSES) -> Check:
    def of(value: object) -> str:
        if not isinstance(value, (list, tuple)) or len(value) > most:
            return f"a list of at most {most:,} entries"
        return next((f"a list, each entry {expected}" for expected in map(check, value) if expected), "")

    return of


def file_name(value: object) -> str:
    """A name of one file or folder, which can't lead out of the folder that it is in."""
    short = isinstance(value, str) and 0 < len(value) <= limits.NAME and len(value.encode(errors="replace")) <= 255
    if short and str(value).isprintable() and value not in (".", "..") and not {"/", "\\"} & set(str(value)):
        return ""
    return f"a name of at most {limits.NAME} characters in one line, without / and \\"


def require(data: Mapping[str, Any], checks: Mapping[str, Check], where: str, *, missing: bool = False) -> None:
    """UsageError for the first entry of `data` that fails its check. missing: whether entries may be absent."""
    for key, check in checks.items():
        if key not in data:
            if missing:
                continue
            raise UsageError(f"{where}: {key} is missing; the file was changed or cut off")
        if wanted := check(data[key]):
            raise UsageError(f"{where}: {key} must be {wanted}, not {brief(data[key])}")


def brief(value: object) -> str:
    """A value in at most 80 characters, without formatting all of a huge one."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, (Mapping, list, tuple)):
        return f"a {type(value).__name__} of {len(value):,}"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a huge number"
    return repr(value)[:80]


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn the errors of a reader into a UsageError that names the place, for data too complex to check entry by entry."""
    try:
        yield
    except UsageError as error:
        known = str(error).startswith(where)
        raise UsageError(str(error) if known else f"{where}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        kind = type(error).__name__
        raise UsageError(f"{where}: damaged, or of another program: {kind}: {reason_of(error, 200)}") from error
