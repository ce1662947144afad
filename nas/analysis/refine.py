"""Narrow a search space by the results of a run: a value is dropped only if tests support it and it is not on the front.

The loop of "Designing Network Design Spaces" (Radosavovic et al., CVPR 2020): inspect the error distribution, narrow the space,
repeat. A value is condemned if at matched cost its trials rank lower than the others (`significance.shift`) and are worse by at
least a fifth of the noise, or if fewer of them are near the front than chance allows (`significance.membership`). Both tests are
one-sided and corrected together for all values tested (Benjamini and Hochberg, 5 %). If the values of a knob are numbers, only
values at the ends are dropped: a value between two good ones is assumed to be good.
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

EFFECT = 0.2  # of the noise; smaller effects do not justify a narrower space, however significant they are
FOLDS = 5
ALL, KEPT = "all trials", "trials of the narrowed space"
HELD_OUT = "the same, chosen by other trials"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A value that is dropped, its statistics, and the q of both tests (1 if the test does not condemn it)."""

    row: Marginal
    q_worse: float
    q_rare: float

    @property
    def reason(self) -> str:
        """The reason in words, with the test."""
        row = self.row
        reasons = []
        if self.q_worse <= FALSE_FINDINGS:
            reasons.append(
                f"{-100 * row.worth:.2f} points worse at matched cost over {row.trials} trials (van Elteren, q = {self.q_worse:.2g})"
            )
        if self.q_rare <= FALSE_FINDINGS:
            reasons.append(
                f"{row.near} of {row.trials} trials near the front where chance expects {row.near_expected:.1f}"
                f" (exact, q = {self.q_rare:.2g})"
            )
        return "; ".join(reasons)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The values of one knob that are kept, and those that are dropped with the reasons."""

    knob: str
    kept: tuple[Value, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True, slots=True)
class Refinement:
    """The narrowed space of a run.

    before_after: EDFs of all trials, of the trials in the narrowed space, and, by cross-validation, of the held-out trials that
    a narrowing chosen by the other folds keeps. The last is free of selection bias.
    """

    narrowings: tuple[Narrowing, ...]
    tested: int  # values
    trials: int
    inside: int  # trials in the narrowed space
    space: SearchSpace | None  # the space that was searched; None if no value is condemned
    before_after: edfs.Comparison | None


def refine(run: Run) -> Refinement:
    """The narrowings that the run's complete trials support; possibly none."""
    trials = sample(run)
    rows = marginals(trials)
    tested = sum(row.tested for row in rows)
    if not _condemned(rows, noise(trials)):
        return Refinement((), tested, len(trials), len(trials), None, None)
    space = Settings.from_dict(run.config, str(run.path)).search_space()
    narrowings = narrow(trials, space.knobs, rows)
    inside = trials.allows(kept(narrowings))
    before_after = None
    if narrowings:
        sets = {ALL: np.ones(len(trials), dtype=np.bool_), KEPT: inside, HELD_OUT: _held_out(trials, space.knobs)}
        before_after = edfs.edf(trials, sets)
    return Refinement(tuple(narrowings), tested, len(trials), int(inside.sum()), space, before_after)


def kept(narrowings: list[Narrowing] | tuple[Narrowing, ...]) -> dict[str, tuple[Value, ...]]:
    return {narrowing.knob: narrowing.kept for narrowing in narrowings}


def narrow(trials: Sample, knobs: Mapping[str, Knob], rows: list[Marginal] | None = None) -> list[Narrowing]:
    """The knobs of a space that lose values. A value that was not tested, or is on the front, is kept."""
    if len(trials) < LEAST:
        return []
    rows = marginals(trials) if rows is None else rows
    condemned = {(drop.row.knob, drop.row.value): drop for drop in _condemned(rows, noise(trials))}
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
    dropped = []
    for k, row in enumerate(tested):
        worse, rare = float(q[k]), float(q[k + len(tested)])
        drop = Dropped(row, worse if row.worth <= -EFFECT * sigma else 1.0, rare)
        if row.front == 0 and min(drop.q_worse, drop.q_rare) <= FALSE_FINDINGS and row.worth < 0:
            dropped.append(drop)
    return dropped


def _ends(bad: list[bool]) -> list[bool]:
    """Masks the bad values before the first good one and after the last good one."""
    good = [k for k, is_bad in enumerate(bad) if not is_bad]
    return [not good or k < good[0] or k > good[-1] for k in range(len(bad))]


def _held_out(trials: Sample, knobs: Mapping[str, Knob]) -> np.ndarray:
    """Mask of the trials that are kept by the narrowing of the other folds, (n,)."""
    fold = np.random.default_rng(0).permutation(len(trials)) % FOLDS
    inside = np.ones(len(trials), dtype=np.bool_)
    for number in range(FOLDS):
        chosen = narrow(trials.subset(fold != number), knobs)
        inside &= (fold != number) | trials.allows(kept(chosen))
    return inside
