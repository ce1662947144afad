"""A refinement as a space file: it extends the space that was searched, and each line that narrows it states the reason.

A run keeps the text of its space (`run.yaml`). If that is an unchanged shipped space, the new file extends it by name.
Otherwise the old text is written to a second file next to the new one, which extends it.
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
    """Text of the new file. base: text of the file that it extends, "" for a shipped space. extends: name of that file or space."""

    text: str
    base: str
    extends: str


def write_out(run: Run, refinement: Refinement, file_name: str) -> SpaceFile:
    """The space file of a refinement with narrowings. file_name: name of the new file; the name of its base derives from it.

    NasError if the narrowed space can't be expressed by lines that override the old one.
    """
    old = refinement.space
    assert old is not None
    shipped = _shipped(old)
    extends = shipped or f"{file_name.removesuffix('.yaml')}.base.yaml"
    name = old.name if old.name.endswith(f"-{SUFFIX}") else f"{old.name}-{SUFFIX}"
    lines = [*_comment(_header(run, refinement)), f"space: {_yaml(name)}", f"extends: {_yaml(extends)}"]
    lines.append(f"description: {_yaml(f'{old.name}, narrowed by what a search has refinement')}")
    body = list(_values(old, refinement.narrowings))
    bounds = list(_budgets(run))
    if old.variant:
        lines += ["variants:", f"  - name: {_yaml(old.variant)}"]
        lines += ["    values:", *(f"      {line}" for line in body)]
        lines += [f"    {line}" for line in bounds]
    else:
        lines += ["values:", *(f"  {line}" for line in body), *bounds]
    made = SpaceFile("\n".join(lines) + "\n", "" if shipped else old.source, extends)
    _check(old, refinement, made)
    return made


def _shipped(old: SearchSpace) -> str:
    """Name of the shipped space that equals the searched one; "" if there is none."""
    if old.name not in names():
        return ""
    try:
        same = load_space(old.name, resolution=old.resolution, channels=old.channels, classes=old.classes)
    except UsageError:
        return ""
    return old.name if same.slots == old.slots and same.variant == old.variant else ""


def _values(old: SearchSpace, narrowings: Iterable[Narrowing]) -> Iterator[str]:
    """A line for each narrowed knob, after its reasons. Lines of single stages that a line for all stages would override follow."""
    by_key = {narrowing.knob: narrowing for narrowing in narrowings}
    covered = {slot.attribute for slot in old.slots if slot.key in by_key and slot.stage == 0}
    for slot in old.slots:
        narrowing = by_key.get(slot.key)
        if narrowing is not None:
            for drop in narrowing.dropped:
                yield from _comment([f"{slot.key}: {drop.row.value} is dropped: {drop.reason}"])
            yield f"{slot.key}: {_domain(slot, narrowing.kept)}"
        elif slot.stage and slot.attribute in covered:
            values = slot.domain.values if isinstance(slot.domain, Knob) else (slot.domain,)
            yield f"{slot.key}: {_domain(slot, values)}  # as it was"


def _domain(slot: Slot, values: tuple[Value, ...]) -> str:
    listed = f"[{', '.join(map(_yaml, values))}]"
    when = slot.domain.when if isinstance(slot.domain, Knob) else ()
    if when:
        conditions = ", ".join(f"{name}: [{', '.join(map(_yaml, kinds))}]" for name, kinds in when)
        return f"{{values: {listed}, when: {{{conditions}}}}}"
    return listed if len(values) > 1 else _yaml(values[0])


def _budgets(run: Run) -> Iterator[str]:
    """The run's budgets: its findings hold only within them."""
    bounds = run.config["budgets"]
    if bounds:
        yield "budgets:"
        for metric, ends in bounds.items():
            limits = ", ".join(
                f"{name}: {end!r}" for name, end in zip(("min", "max"), ends, strict=True) if end is not None
            )
            yield f"  {metric}: {{{limits}}}"


def _header(run: Run, refinement: Refinement) -> list[str]:
    first = (
        f"Narrowed by `nas refine` from {refinement.trials:,} complete trials of {run.config['name']}, of which"
        f" {refinement.inside:,} lie in this space. {refinement.tested:,} values were tested; on average at most 5 % of the"
        " dropped values are false findings. None is on the front."
    )
    lines = [first, *edf_sentences(refinement)]
    lines.append("Retrospective, except for the last: the narrowing is judged by the trials that chose it.")
    return lines if refinement.before_after is not None else lines[:1]


def edf_sentences(refinement: Refinement) -> list[str]:
    """The error distributions before and after the narrowing, one sentence for each curve."""
    if refinement.before_after is None:
        return []
    tenth, half = edfs.QUANTILES
    sentences = []
    for curve in refinement.before_after.curves:
        spans = [
            f"{format_percent(q[0])} % ({format_percent(q[1])} to {format_percent(q[2])})"
            for q in (curve.quantiles[half], curve.quantiles[tenth])
        ]
        sentences.append(
            f"Error of {curve.name} (n = {curve.trials:,}, costs matched): median {spans[0]}, best tenth below {spans[1]}."
        )
    return sentences


def _comment(paragraphs: Iterable[str]) -> Iterator[str]:
    import textwrap

    for text in paragraphs:
        clean = "".join(character if character.isprintable() else " " for character in text)
        yield from (f"# {line}" for line in textwrap.wrap(clean, WIDTH - 8, break_on_hyphens=False))


def _yaml(value: Value) -> str:
    """A value as YAML."""
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


def _check(old: SearchSpace, refinement: Refinement, made: SpaceFile) -> None:
    """NasError unless the new file reads back as the old space without the dropped values."""
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
    stays = kept(refinement.narrowings)
    for key, knob in new.knobs.items():
        if key not in old.knobs or knob.values != stays.get(key, old.knobs[key].values):
            raise NasError(f"the narrowed space can't be written as a file: {key} would be {list(knob.values)}")
    for key, values in stays.items():
        if len(values) > 1 and key not in new.knobs:
            raise NasError(f"the narrowed space can't be written as a file: {key} would be lost")
