"""A refinement as a space file: it extends the space that was searched, and each line that narrows it says why.

A run keeps its space written out (`run.yaml`). Where that is a shipped space, unchanged, the new file extends it by name; else
the old text goes into a second file beside the new one, which extends that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.analysis import edf as edfs
from nas.analysis.refine import Narrowing, Refinement, kept
from nas.errors import NasError, UsageError
from nas.networks.blocks._base import Value
from nas.spaces.attributes import Slot
from nas.spaces.knobs import Knob
from nas.spaces.space import SearchSpace, load_space, names
from nas.utils.text import format_percent

if TYPE_CHECKING:
    from nas.runs.run import Run

SUFFIX = "refined"
WIDTH = 118


@dataclass(frozen=True, slots=True)
class SpaceFile:
    """Text of the new file; `base`: text of the file that it extends, "" if that is a shipped space."""

    text: str
    base: str
    extends: str


def write_out(run: Run, found: Refinement, file_name: str) -> SpaceFile:
    """The file for a refinement that narrows something. file_name: what it will be called, for the name of its base.

    NasError if the language can't say the narrowed space by lines laid over the old one.
    """
    old = found.space
    assert old is not None
    shipped = _shipped(old)
    extends = shipped or f"{file_name.removesuffix('.yaml')}.base.yaml"
    name = old.name if old.name.endswith(f"-{SUFFIX}") else f"{old.name}-{SUFFIX}"
    lines = [*_comment(_header(run, found)), f"space: {_said(name)}", f"extends: {_said(extends)}"]
    lines.append(f"description: {_said(f'{old.name}, narrowed by what a search has found')}")
    body = list(_values(old, found.narrowings))
    bounds = list(_budgets(run))
    if old.variant:
        lines += ["variants:", f"  - name: {_said(old.variant)}"]
        lines += ["    values:", *(f"      {line}" for line in body)]
        lines += [f"    {line}" for line in bounds]
    else:
        lines += ["values:", *(f"  {line}" for line in body), *bounds]
    made = SpaceFile("\n".join(lines) + "\n", "" if shipped else old.source, extends)
    _check(old, found, made)
    return made


def _shipped(old: SearchSpace) -> str:
    """The shipped space that is the searched one; "" if none is."""
    if old.name not in names():
        return ""
    try:
        same = load_space(old.name, resolution=old.resolution, channels=old.channels, classes=old.classes)
    except UsageError:
        return ""
    return old.name if same.slots == old.slots and same.variant == old.variant else ""


def _values(old: SearchSpace, narrowings: Iterable[Narrowing]) -> Iterator[str]:
    """A line for each narrowed knob, its reasons above it; lines of single stages that a line for all would cover follow it."""
    by_key = {narrowing.knob: narrowing for narrowing in narrowings}
    covered = {slot.attribute for slot in old.slots if slot.key in by_key and slot.stage == 0}
    for slot in old.slots:
        narrowing = by_key.get(slot.key)
        if narrowing is not None:
            for drop in narrowing.dropped:
                yield from _comment([f"{slot.key}: {drop.row.value} goes: {drop.reason}"])
            yield f"{slot.key}: {_domain(slot, narrowing.kept)}"
        elif slot.stage and slot.attribute in covered:
            values = slot.domain.values if isinstance(slot.domain, Knob) else (slot.domain,)
            yield f"{slot.key}: {_domain(slot, values)}  # as it was"


def _domain(slot: Slot, values: tuple[Value, ...]) -> str:
    said = f"[{', '.join(map(_said, values))}]"
    when = slot.domain.when if isinstance(slot.domain, Knob) else ()
    if when:
        conditions = ", ".join(f"{name}: [{', '.join(map(_said, kinds))}]" for name, kinds in when)
        return f"{{values: {said}, when: {{{conditions}}}}}"
    return said if len(values) > 1 else _said(values[0])


def _budgets(run: Run) -> Iterator[str]:
    """The run's bounds: what it found holds within them."""
    bounds = run.config["budgets"]
    if bounds:
        yield "budgets:"
        for metric, ends in bounds.items():
            said = ", ".join(
                f"{name}: {end!r}" for name, end in zip(("min", "max"), ends, strict=True) if end is not None
            )
            yield f"  {metric}: {{{said}}}"


def _header(run: Run, found: Refinement) -> list[str]:
    first = (
        f"Narrowed by `nas refine` from {found.trials:,} complete trials of {run.config['name']}, of which {found.inside:,} lie in"
        f" this space. {found.tested:,} values were tested; at most 5 % of those that go do so by chance. None is on the front."
    )
    lines = [first, *said_edf(found)]
    lines.append("Retrospective, but for the last: the trials that chose the narrowing are those that it is judged by.")
    return lines if found.before_after is not None else lines[:1]


def said_edf(found: Refinement) -> list[str]:
    """Before and after, a sentence a curve."""
    if found.before_after is None:
        return []
    tenth, half = edfs.QUANTILES
    said = []
    for curve in found.before_after.curves:
        spans = [
            f"{format_percent(q[0])} % ({format_percent(q[1])} to {format_percent(q[2])})"
            for q in (curve.quantiles[half], curve.quantiles[tenth])
        ]
        said.append(
            f"Error of {curve.name} (n = {curve.trials:,}, costs matched): median {spans[0]}, best tenth below {spans[1]}."
        )
    return said


def _comment(paragraphs: Iterable[str]) -> Iterator[str]:
    import textwrap

    for text in paragraphs:
        clean = "".join(character if character.isprintable() else " " for character in text)
        yield from (f"# {line}" for line in textwrap.wrap(clean, WIDTH - 8, break_on_hyphens=False))


def _said(value: Value) -> str:
    """A value as YAML reads it back."""
    if isinstance(value, str):
        return (
            value
            if value.replace("_", "a").replace("-", "a").isalnum()
            and value[0].isalpha()
            and value.isascii()
            and value not in _WORDS
            else json.dumps(value)
        )
    return repr(value)


_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def _check(old: SearchSpace, found: Refinement, made: SpaceFile) -> None:
    """Read back, the new space is the old one without the values that went."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "refined.yaml"
        path.write_text(made.text, encoding="utf-8")
        if made.base:
            (path.parent / made.extends).write_text(made.base, encoding="utf-8")
        try:
            new = load_space(path, resolution=old.resolution, channels=old.channels, classes=old.classes)
        except UsageError as error:
            raise NasError(f"the narrowed space can't be written as a file: {error}") from error
    stays = kept(found.narrowings)
    for key, knob in new.knobs.items():
        if key not in old.knobs or knob.values != stays.get(key, old.knobs[key].values):
            raise NasError(f"the narrowed space can't be written as a file: {key} would be {list(knob.values)}")
    for key, values in stays.items():
        if len(values) > 1 and key not in new.knobs:
            raise NasError(f"the narrowed space can't be written as a file: {key} would be lost")
