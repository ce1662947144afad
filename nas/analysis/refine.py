"""A narrower space from what a run has found: a value goes only where tests carry it, and never one of the present front.

The loop of "Designing Network Design Spaces" (Radosavovic et al., CVPR 2020): look at the error distribution, narrow, look
again. A value is condemned if at matched cost its trials rank lower than the others' (`significance.shift`) and are worse by
at least a fifth of the noise, or if fewer of them are near the front than chance allows (`significance.membership`); both
one-sided, corrected together for all values tested (Benjamini and Hochberg, 5 %). Of a knob whose values are numbers only
the ends go: between two good values there is no bad one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.analysis import edf as edfs
from nas.analysis.marginals import FALSE_FINDINGS, LEAST, Marginal, marginals, noise
from nas.analysis.sample import Sample, sample
from nas.analysis.significance import benjamini_hochberg
from nas.networks.blocks._base import Value
from nas.runs.settings import Settings
from nas.spaces.knobs import Knob

if TYPE_CHECKING:
    from nas.runs.run import Run
    from nas.spaces.space import SearchSpace

EFFECT = 0.2  # of the noise: what is less is not worth a narrower search, however sure
FOLDS = 5
ALL, KEPT = "all trials", "trials of the narrowed space"
HELD_OUT = "the same, chosen by other trials"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A value that goes, its figures, and the q of either test (1 if that test does not condemn it)."""

    row: Marginal
    q_worse: float
    q_rare: float

    @property
    def reason(self) -> str:
        """In words, with the test."""
        row = self.row
        said = []
        if self.q_worse <= FALSE_FINDINGS:
            said.append(
                f"{-100 * row.worth:.2f} points worse at matched cost over {row.trials} trials (van Elteren, q = {self.q_worse:.2g})"
            )
        if self.q_rare <= FALSE_FINDINGS:
            said.append(
                f"{row.near} of {row.trials} trials near the front where chance expects {row.near_expected:.1f}"
                f" (exact, q = {self.q_rare:.2g})"
            )
        return "; ".join(said)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """One knob: what of it stays, what goes and why."""

    knob: str
    kept: tuple[Value, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True, slots=True)
class Refinement:
    """What a run says of its space. `before_after`: EDFs of all trials, of those in the narrowed space and, of all trials in
    turn, of those that a narrowing chosen by the others would have kept, which is free of the choice's optimism.
    """

    narrowings: tuple[Narrowing, ...]
    tested: int  # values
    trials: int
    inside: int  # trials in the narrowed space
    space: SearchSpace | None  # that was searched; None where nothing is condemned
    before_after: edfs.Comparison | None


def refine(run: Run) -> Refinement:
    """The narrowings that the run's complete trials carry; none is an answer too."""
    found = sample(run)
    rows = marginals(found)
    tested = sum(row.tested for row in rows)
    if not _condemned(rows, noise(found)):
        return Refinement((), tested, len(found), len(found), None, None)
    space = Settings(**{k: v for k, v in run.config.items() if k in Settings.__dataclass_fields__}).search_space()
    narrowings = narrow(found, space.knobs, rows)
    inside = found.allows(kept(narrowings))
    before_after = None
    if narrowings:
        sets = {ALL: np.ones(len(found), dtype=np.bool_), KEPT: inside, HELD_OUT: _held_out(found, space.knobs)}
        before_after = edfs.edf(found, sets)
    return Refinement(tuple(narrowings), tested, len(found), int(inside.sum()), space, before_after)


def kept(narrowings: list[Narrowing] | tuple[Narrowing, ...]) -> dict[str, tuple[Value, ...]]:
    return {narrowing.knob: narrowing.kept for narrowing in narrowings}


def narrow(found: Sample, knobs: Mapping[str, Knob], rows: list[Marginal] | None = None) -> list[Narrowing]:
    """The knobs of a space that lose values. A value that was not tested, or is on the front, stays."""
    if len(found) < LEAST:
        return []
    rows = marginals(found) if rows is None else rows
    condemned = {(drop.row.knob, drop.row.value): drop for drop in _condemned(rows, noise(found))}
    narrowings = []
    for key, knob in knobs.items():
        bad = [(key, value) in condemned for value in knob.values]
        goes = _ends(bad) if knob.ordinal else bad
        if any(goes) and not all(goes):
            stays = tuple(value for value, gone in zip(knob.values, goes, strict=True) if not gone)
            gone = tuple(condemned[key, value] for value, gone in zip(knob.values, goes, strict=True) if gone)
            narrowings.append(Narrowing(key, stays, gone))
    return narrowings


def _condemned(rows: list[Marginal], sigma: float) -> list[Dropped]:
    tested = [row for row in rows if row.p_worse is not None and row.p_rare is not None]
    p = [row.p_worse or 0.0 for row in tested] + [row.p_rare or 0.0 for row in tested]
    q = benjamini_hochberg(p)
    found = []
    for k, row in enumerate(tested):
        worse, rare = float(q[k]), float(q[k + len(tested)])
        drop = Dropped(row, worse if row.worth <= -EFFECT * sigma else 1.0, rare)
        if row.front == 0 and min(drop.q_worse, drop.q_rare) <= FALSE_FINDINGS and row.worth < 0:
            found.append(drop)
    return found


def _ends(bad: list[bool]) -> list[bool]:
    """Of bad values only those that lie before the first good one or behind the last."""
    good = [k for k, is_bad in enumerate(bad) if not is_bad]
    return [not good or k < good[0] or k > good[-1] for k in range(len(bad))]


def _held_out(found: Sample, knobs: Mapping[str, Knob]) -> np.ndarray:
    """The trials that the narrowing by the other folds keeps, (n,)."""
    fold = np.random.default_rng(0).permutation(len(found)) % FOLDS
    inside = np.ones(len(found), dtype=np.bool_)
    for number in range(FOLDS):
        chosen = narrow(found.subset(fold != number), knobs)
        inside &= (fold != number) | found.allows(kept(chosen))
    return inside
