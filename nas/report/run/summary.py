"""A run's results in sentences: state of the search, up to three recommended networks, comparison with the baselines.

Plain text without markup.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas import pareto
from nas.runs.records import Trial
from nas.utils.text import format_percent, format_price, points

if TYPE_CHECKING:
    from nas.runs.run import Run

NOUNS = {
    "accuracy": "validation accuracy",
    "params": "parameters",
    "macs": "MACs",
    "activations": "activations",
    "executed": "executed MACs",
    "latency_ms": "latency",
}
COUNTS = ("params", "macs", "activations")
STATUS = {  # of a run, in words
    "done": "done",
    "running": "still going",
    "confirming": "being confirmed",
    "unfinished": "not finished",
}
KNEE = "Best trade-off (the knee)"
CLOSE = 1.0  # percentage points by which the recommended small network may be less accurate than the best
LESS = 0.95  # share of a baseline's cost up to which a network counts as smaller


@dataclass(frozen=True, slots=True)
class Pick:
    """A recommended network, and why."""

    title: str
    why: str
    trial: Trial


def counted(n: int, noun: str) -> str:
    """`1 trial`, `2,000 trials`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def costs(run: Run) -> list[str]:
    """Names of the run's objectives after accuracy."""
    return [objective.name for objective in run.objectives[1:]]


def _few(word: str, name: str) -> str:
    """The word for a small cost: counts are few, fewer, fewest; a latency is low, lower, lowest."""
    return word if name in COUNTS else word.replace("few", "low")


def knee(run: Run) -> Trial | None:
    """The front's best compromise (`nas.pareto.knee`), or None if the front has no knee."""
    front = run.front()
    index = pareto.knee([run.values(trial) for trial in front], run.directions) if front else None
    return None if index is None else front[index]


def picks(run: Run) -> list[Pick]:
    """The knee if there is one, the most accurate network, and the smallest within a point of it; none if none is complete."""
    if not run.complete():
        return []
    recommended = []
    middle = knee(run)
    if middle is not None:
        recommended.append(
            Pick(KNEE, "furthest above the line between the ends of the front, costs compared by ratio", middle)
        )
    best = run.best()
    measure = "mean validation accuracy of those confirmed" if run.by_means else "validation accuracy of all"
    first = costs(run)[0]
    close = [trial for trial in run.ranked() if points(_accuracy(run, best), _accuracy(run, trial)) <= CLOSE]
    small = min(close, key=lambda trial: (trial.price(first), -_accuracy(run, trial)))
    if small is best:
        why = f"the highest {measure}; none with {_few('fewer', first)} {NOUNS[first]} comes within {CLOSE:g} point"
        return [*recommended, Pick("Most accurate", why, best)]
    recommended.append(Pick("Most accurate", f"the highest {measure}", best))
    why = f"the {_few('fewest', first)} {NOUNS[first]} within {CLOSE:g} point of the most accurate"
    recommended.append(Pick("Smallest that comes close", why, small))
    return recommended


def progress(run: Run) -> str:
    """How many trials were requested, and how the proposed ones ended."""
    trained = run.count("complete") + run.count("stopped")
    wanted = run.config["trials"]
    stopped = run.count("stopped")
    fates = f" ({run.count('complete'):,} to the end, {stopped:,} stopped early)" if stopped else ""
    state = {
        "done": f"Done: {counted(trained, 'trial')} trained{fates}.",
        "running": f"Still going: {trained:,} of {wanted:,} trials trained{fates} when this page was written.",
        "confirming": f"{counted(trained, 'trial')} trained{fates}; {confirming(run)} when this page was written.",
    }.get(
        run.status, f"Not finished: {trained:,} of {wanted:,} trials trained{fates}, and no process is working on it."
    )
    sentences = [state]
    others = [
        f"{count:,} {words}"
        for words, count in (
            ("in training", run.count("running")),
            ("failed", run.count("failed")),
            ("rejected for their cost before any training", run.count("rejected")),
            ("duplicates of earlier networks", run.count("duplicate")),
        )
        if count
    ]
    if others:
        sentences.append(f"Also proposed: {', '.join(others)}.")
    missing = [trial.label for trial in run.baselines() if trial.state == "running"]
    if missing:
        sentences.append(f"Baselines not trained yet: {', '.join(missing)}.")
    return " ".join(sentences)


def confirming(run: Run) -> str:
    """Progress of the confirmation that is running; empty if none is."""
    so_far = run.confirmed_so_far()
    return f"being confirmed, {so_far[0]:,} of {counted(so_far[1], 'training')} done" if so_far else ""


def searched(run: Run) -> str:
    """The space, the images and the objectives."""
    data = run.config["dataset"]
    colour = {1: "gray", 3: "color"}.get(data["channels"], f"{data['channels']} channels")
    shape = f"{data['resolution']}\u00a0×\u00a0{data['resolution']} pixels, {colour}"
    images = f"{data['train_images']:,} training and {data['validation_images']:,} validation images"
    objectives = " and ".join(f"{_few('few', name)} {NOUNS[name]}" for name in costs(run))
    return (
        f"The space {run.config['space']['name']} was searched on {data['name']} ({images}, {shape}, {len(data['classes'])} classes)"
        f" for high validation accuracy with {objectives}."
    )


def reference(run: Run) -> str:
    """The hypervolume's reference point."""
    costs_there = zip(costs(run), run.reference[1:], strict=True)
    return ", ".join(
        [
            f"accuracy {format_percent(run.reference[0])} %",
            *(f"{format_price(name, round(n) if name in COUNTS else n)} {NOUNS[name]}" for name, n in costs_there),
        ]
    )


def caveat(run: Run) -> str:
    """How the accuracies were measured, and how uncertain they are."""
    epochs, images = run.config["recipe"]["epochs"], run.config["dataset"]["validation_images"]
    words = f"Accuracy on this page is validation accuracy after proxy training of {counted(epochs, 'epoch')}"
    if not run.by_means:
        words += ", one seed each."
    else:
        words += "; ± is one standard error over the seeds that a network was confirmed with."
    if run.complete() and images:
        p = _accuracy(run, run.best())
        error = format_percent((p * (1 - p) / images) ** 0.5)
        # The seeds share the validation images but not the mistakes on them, so this bounds a mean's standard error from above.
        most = "at most " if run.by_means else ""
        words += (
            f" Measured on {images:,} images, {format_percent(p)} % has a standard error of {most}{error} points from the choice of"
            f" images alone{', which no ± here includes' if run.by_means else ''}. The best of many is also optimistic (selection bias):"
            " train the network that you choose in full, then test it once."
        )
    return words


def within_budgets(run: Run, most: int = 5) -> list[tuple[float, Trial]]:
    """Round budgets (1, 2, 5 times a power of 10) of the first cost, and the most accurate network within each.

    At most `most` budgets, from the first above the cheapest trial to the first above all of them. A budget that allows
    no better network than the one before is left out.
    """
    trials = run.ranked()
    if not trials:
        return []
    first = costs(run)[0]
    counts = [trial.price(first) for trial in trials]
    limits = round_budgets(min(counts), max(counts))
    chosen: list[tuple[float, Trial]] = []
    for limit in limits:
        fitting = [trial for trial in trials if trial.price(first) <= limit]
        best = max(fitting, key=lambda trial: (_accuracy(run, trial), -trial.cost.macs))
        if not chosen or chosen[-1][1] is not best:
            chosen.append((limit, best))
    return chosen[-most:]


def round_budgets(least: float, most: float) -> list[float]:
    """1, 2 and 5 times powers of 10: from the first that is not below `least` to the first that is not below `most`."""
    limits: list[float] = []
    digits = math.floor(math.log10(max(least, 1e-9)))
    while not limits or limits[-1] < most:
        five = (figure * 10**digits if digits >= 0 else figure / 10**-digits for figure in (1, 2, 5))
        limits += [limit for limit in five if limit >= least]
        digits += 1
    return [limit for place, limit in enumerate(limits) if place == 0 or limits[place - 1] < most]


def round_price(name: str, value: float) -> str:
    """A round cost without the zeros at its end: `50 k`, `0.5 ms`."""
    figure, _, prefix = format_price(name, value).replace(",", "").partition(" ")
    return f"{float(figure):g}\u00a0{prefix}".strip()


def comparisons(run: Run) -> list[str]:
    """One or two sentences for each trained baseline, the cheapest first: the best trial at its cost, and one as good at less."""
    rivals = [trial for trial in run.ranked() if not trial.label]
    first = costs(run)[0]
    trained = sorted((trial for trial in run.ranked() if trial.label), key=lambda trial: trial.price(first))
    return (
        [f"{_better(run, baseline, rivals)}{_smaller(run, baseline, rivals)}" for baseline in trained] if rivals else []
    )


def _at_cost(run: Run, baseline: Trial, rivals: list[Trial]) -> Trial | None:
    """The most accurate trial that costs no more in any objective."""
    names = costs(run)
    fitting = [trial for trial in rivals if all(trial.price(k) <= baseline.price(k) for k in names)]
    return max(fitting, key=lambda trial: (_accuracy(run, trial), -trial.price(names[0])), default=None)


def _better(run: Run, baseline: Trial, rivals: list[Trial]) -> str:
    nouns = " and ".join(NOUNS[name] for name in costs(run))
    mark = f"{format_percent(_accuracy(run, baseline))} %"
    best = _at_cost(run, baseline, rivals)
    if best is None:
        return f"No complete trial has as {_few('few', costs(run)[0])} {nouns} as {baseline.name} ({mark})."
    gain = points(_accuracy(run, best), _accuracy(run, baseline))
    if gain <= 0:
        return f"No trial with no more {nouns} than {baseline.name} beats its {mark}."
    chance = ""
    if gain < 200 * standard_error(run, best, baseline):
        chance = " (less than two standard errors of the difference, so it may be chance)"
    return (
        f"At the cost of {baseline.name} (no more {nouns}), {best.name} is {gain:.2f} points better:"
        f" {format_percent(_accuracy(run, best))} % against {mark}{chance}."
    )


def standard_error(run: Run, *trials: Trial) -> float:
    """Standard error of an accuracy p: over seeds if the trial is ranked by its mean, else sqrt(p (1 - p) / n), n validation images.

    For several trials, that of the sum or difference of their accuracies, taken as independent.
    """
    images = int(run.config["dataset"]["validation_images"])

    def variance(trial: Trial) -> float:
        if run.by_means and trial.confirmed:
            return trial.confirmed.std_error**2
        accuracy = _accuracy(run, trial)
        return accuracy * (1 - accuracy) / images

    return math.sqrt(sum(map(variance, trials)))


def _smaller(run: Run, baseline: Trial, rivals: list[Trial]) -> str:
    """The cheapest trial that is as accurate at clearly less of the first cost; empty if there is none."""
    first = costs(run)[0]
    as_good = [trial for trial in rivals if points(_accuracy(run, trial), _accuracy(run, baseline)) >= 0]
    small = min(as_good, key=lambda trial: (trial.price(first), -_accuracy(run, trial)), default=None)
    if small is None or small.price(first) > LESS * baseline.price(first):
        return ""
    price, other = small.price(first), baseline.price(first)
    share = f"{100 * price / other:.2g} % of the {NOUNS[first]} ({format_price(first, price)} against {format_price(first, other)})"
    named = points(_accuracy(run, small), _accuracy(run, baseline)) > 0  # by the sentence before
    if named and small is _at_cost(run, baseline, rivals):
        return f" It has {share}."
    return f" {small.name[0].upper()}{small.name[1:]} is at least as accurate ({format_percent(_accuracy(run, small))} %) with {share}."


def _accuracy(run: Run, trial: Trial) -> float:
    """The accuracy by which a complete trial is ranked."""
    accuracy = run.accuracy(trial)
    assert accuracy is not None
    return accuracy
