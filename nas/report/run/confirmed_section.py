"""Results of the confirmation of a run's front in sentences, for the page, Markdown and `nas front`. Plain text without markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.runs import ranking
from nas.utils.text import counted, format_percent, shown

if TYPE_CHECKING:
    from nas.runs.records import Trial
    from nas.runs.run import Run

NAMED = 8  # networks that a sentence names


def is_begun(run: Run) -> bool:
    """Whether any network was trained again."""
    return any(trial.repeats for trial in run.trials)


def sentences(run: Run) -> list[str]:
    """How the front is ranked, how far its accuracies fell in the confirmation, what changed; none if no trial is complete."""
    searched = run.searched_front()
    if not searched:
        return []
    command = f"`nas confirm {shown(run.path)}`"
    if not is_begun(run):
        once = "Each network was trained once, and the best of many are the best partly by luck:"
        return [f"{once} {command} trains the front from further seeds and ranks it by their means."]
    if not run.by_means:
        ready = sum(len(trial.repeats) > 1 for trial in searched)
        unconfirmed = (
            f"Of the front's {counted(len(searched), 'network')} {ready} {'is' if ready == 1 else 'are'} trained from two further seeds"
            " or more. Until all are, the front is that of the search, whose accuracies are optimistic;"
            f" {command} continues."
        )
        return [unconfirmed, *_fall(run), *_failed(run)]
    by_means = (
        "The front is that of the confirmed networks by their means over further seeds, without the training that each was chosen"
        " by; ± is one standard error over the n seeds."
    )
    return [by_means, *_fall(run), *_changes(run, searched), *_failed(run), *_contenders(run, searched)]


def _fall(run: Run) -> list[str]:
    fall = run.fall()
    if fall is None:
        return []
    word = "fell" if fall.mean >= 0 else "rose"
    size = (
        f"{format_percent(abs(fall.mean))} ± {format_percent(fall.std_error)} points on average over {fall.n} networks"
    )
    warning = (
        ": the accuracy of a network that joined the front by one training is optimistic by about as much"
        if fall.mean > 0
        else ""
    )
    if abs(fall.mean) < 2 * fall.std_error:
        warning = " (less than two standard errors, so it may be chance)"
    return [f"The accuracies that the search chose by {word} by {size}{warning}."]


def _changes(run: Run, searched: Sequence[Trial]) -> list[str]:
    members = run.front()
    numbers = {trial.number for trial in members}
    before = {trial.number for trial in searched}
    gone = [trial for trial in searched if trial.number not in numbers]
    new = [trial for trial in members if trial.number not in before]
    changes = [f"{_names(gone)} left it"] if gone else []
    changes += [f"{_names(new)} joined it"] if new else []
    if not changes:
        return [f"By means the front is that of the search, {counted(len(members), 'network')}."]
    return [f"The search's front had {counted(len(searched), 'network')}: {'; '.join(changes)}."]


def _failed(run: Run) -> list[str]:
    failures = []
    for trial in run.trials:
        failed = [repeat for repeat in trial.repeats if repeat.state == "failed"]
        if failed:
            of = f"{len(failed)} of {counted(len(trial.repeats), 'further training')} failed"
            failures.append(f"{_capital(trial)}: {of}, and its mean leaves them out: {failed[-1].reason}.")
    return failures


def _contenders(run: Run, searched: Sequence[Trial]) -> list[str]:
    """Networks that were trained once and would be on the front even after the average fall is subtracted."""
    fall = run.fall()
    off = max(fall.mean, 0.0) if fall else 0.0
    rivals = ranking.contenders(run.complete(), run.front(), off)
    if not rivals:
        return []
    # Rounded up; 1e-6 allows for the rounding of two binary fractions.
    points = math.ceil(1e4 * max(ranking.lacking(trial, searched) for trial in rivals) + 1e-6) / 100
    those = "that one" if len(rivals) == 1 else "those"
    command = f"`nas confirm {shown(run.path)} --within {points:g}`"
    luck = f"even with {format_percent(off)} points subtracted" if off else "too"
    first = _capital(rivals[0]) + _names(rivals).removeprefix(rivals[0].name)
    return [f"{first}, trained once, would be on it {luck}: {command} trains {those} again."]


def _capital(trial: Trial) -> str:
    """The trial's name at the start of a sentence; a label stays as it is."""
    return trial.label or f"Trial {trial.number}"


def _names(trials: Sequence[Trial]) -> str:
    names = [trial.name for trial in trials]
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
