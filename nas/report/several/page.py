"""Several runs on one page: fronts, progress from a common reference point, best networks within budgets, different settings.

`nas report RUN1 RUN2 ...`. Accuracies are comparable only if the runs measured them in the same way; `warnings` reports where they
did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.pareto.volume import hypervolume_history
from nas.report.html.chart import Chart
from nas.report.html.document import document
from nas.report.html.markup import Html, table, tag
from nas.report.run import summary as answer
from nas.report.run.sections import MACS, tied
from nas.report.run.summary import NOUNS
from nas.report.several import figures as figures_page
from nas.report.several.figures import Named, Progress
from nas.utils.files import write_text
from nas.utils.text import format_percent, format_price, format_seconds, format_setting, shown

if TYPE_CHECKING:
    from nas.runs.records import Trial
    from nas.runs.run import Run

FILE = "compared.html"


def write(runs: Sequence[Run], out: Path) -> Path:
    """Write the self-contained page and return its path. NasError if it can't be written."""
    write_text(out, page(runs))
    return out


def page(runs: Sequence[Run]) -> str:
    again = any(trial.repeats for run in runs for trial in run.trials)
    named = names([run.as_searched() for run in runs] if again else runs)
    complete = [one for one in named if one.run.complete()]
    costs = common_costs(runs)
    charts = []
    if complete:
        charts = [_joint(complete, cost) for cost in costs]
        history = progress(complete)
        charts += [_against(history, axis) for axis in ("trials", "hours")]
    placed = [chart.place() for chart in charts]
    fronts, histories = placed[: len(costs)], placed[len(costs) :]
    parts = [_opening(named)]
    if again:
        words = (
            "All accuracies on this page are those of the search's single training of each network. Some networks were also confirmed from"
            " further seeds; their means are on the pages of their runs."
        )
        parts.append(tag("p", words, id="as-searched"))
    if complete:
        parts += [
            tag("section", tag("h2", "Fronts"), tag("div", *fronts, class_="charts")),
            tag("section", tag("h2", "Best within a budget"), _budgets(complete, costs[0])),
            tag("section", tag("h2", "Progress"), tag("div", *histories, class_="charts"), _reference(complete)),
        ]
    shared = _shared(named)
    parts += [tag("section", tag("h2", "Networks that several runs trained"), shared)] if shared else []
    parts.append(tag("section", tag("h2", "What differs"), _differences(named)))
    return document(_title(named), tag("main", *parts), charts)


def names(runs: Sequence[Run]) -> list[Named]:
    named: list[Named] = []
    for run in runs:
        name, number = str(run.config["name"]), 1
        while any(one.name == name for one in named):
            number += 1
            name = f"{run.config['name']} ({number})"
        named.append(Named(name, run))
    return named


def common_costs(runs: Sequence[Run]) -> list[str]:
    """Costs that are objectives of all runs, in the order of the first run; parameters if there are none."""
    shared = [cost for cost in answer.costs(runs[0]) if all(cost in answer.costs(run) for run in runs[1:])]
    return shared or ["params"]


def warnings(runs: Sequence[Named]) -> list[str]:
    """Reasons why the accuracies of the runs are not, or not directly, comparable; empty if they are."""
    differences = []
    for what, fact in (
        ("were trained on different images (by the fingerprints of their data)", lambda c: c["dataset"]["fingerprint"]),
        (
            "have different validation images (their number, or the seed of the split, differs)",
            lambda c: (c["dataset"]["validation_images"], c["seed"]),
        ),
        ("were trained by different recipes", lambda c: c["recipe"]),
        ("trained different proxies (resolution, width or share of the images)", lambda c: c.get("proxy") or {}),
    ):
        groups: dict[str, list[str]] = {}
        for one in runs:
            groups.setdefault(repr(fact(one.run.config)), []).append(one.name)
        if len(groups) > 1:
            sides = " | ".join(", ".join(group) for group in groups.values())
            differences.append(f"These runs {what}: {sides}.")
    return differences


def reference(runs: Sequence[Run], costs: Sequence[str]) -> list[float]:
    """The common reference point: the worst of the runs' reference points in accuracy and in each common cost."""
    worst = [min(run.reference[0] for run in runs)]
    for cost in costs:
        corners = [run.reference[1 + answer.costs(run).index(cost)] for run in runs if cost in answer.costs(run)]
        seen = [float(trial.price(cost)) for run in runs for trial in run.complete()]
        worst.append(max(corners or [2 * max(seen)]))
    return worst


def progress(runs: Sequence[Named]) -> list[Progress]:
    """Hypervolume of accuracy and the common costs (log10) from the common reference point, in the order of `Run.asked`."""
    costs = common_costs([one.run for one in runs])
    corner = np.array(reference([one.run for one in runs], costs))
    corner[1:] = np.log10(corner[1:])
    directions = ["maximize", *["minimize"] * len(costs)]
    histories = []
    for one in runs:
        complete = [trial for trial in one.run.asked() if trial.values is not None]
        values = np.array([[trial.accuracy, *(np.log10(trial.price(cost)) for cost in costs)] for trial in complete])
        volume = hypervolume_history(values, corner, directions)
        histories.append(Progress(one.name, np.arange(1.0, len(complete) + 1), _hours(one.run), volume))
    return histories


def _hours(run: Run) -> NDArray[np.float64]:
    """Hours of training up to each complete trial, including stopped and failed ones, in the order in which they were asked for."""
    asked = run.asked()
    spent = np.cumsum([trial.seconds for trial in asked]) / 3600
    return spent[[trial.values is not None for trial in asked]]


# -- parts of the page ----------------------------------------------------------------------------------------------------


def _title(runs: Sequence[Named]) -> str:
    return f"{len(runs)} runs compared: {', '.join(one.name for one in runs)}"


def _opening(runs: Sequence[Named]) -> Html:
    differences = warnings(runs)
    note = [
        tag("p", tag("strong", "Accuracies of these runs can't simply be compared.")),
        *(tag("p", text) for text in differences),
    ]
    rows = []
    for one in runs:
        front = one.run.front()
        best = one.run.best() if front else None
        knee = answer.knee(one.run)
        rows.append(
            (
                one.name,
                answer.STATUS[one.run.status],
                f"{len(one.run.complete()):,}",
                format_seconds(sum(trial.seconds for trial in one.run.trials)),
                _described(best, one.run) if best else "–",
                _described(knee, one.run) if knee else "–",
                f"nas report {shown(one.run.path)}",
            )
        )
    head = ("Run", "State", "Complete trials", "Training time", "Most accurate", "Knee", "Its own page")
    caption = (
        "Accuracies in % ± one standard error due to the choice of the validation images alone, and the first cost."
    )
    return tag(
        "header",
        tag("h1", f"{len(runs)} runs compared"),
        *([tag("div", *note, class_="warning", role="note")] if differences else []),
        table(caption, head, rows, numbers=(2, 3)),
        tag("p", MACS, class_="quiet"),
    )


def _described(trial: Trial, run: Run) -> str:
    cost = answer.costs(run)[0]
    error = 100 * answer.standard_error(run, trial)
    return f"{trial.name}: {format_percent(trial.accuracy or 0.0)} ± {error:.2f}, {format_price(cost, trial.price(cost))} {NOUNS[cost]}"


def _joint(runs: Sequence[Named], cost: str) -> Chart:
    words = "; ".join(f"{one.name}: {len(one.run.front())} networks on its front" for one in runs)
    label = f"Chart of validation accuracy against {NOUNS[cost]} of {len(runs)} runs. {words}."
    caption = f"Lines: best accuracy of a run at this number of {NOUNS[cost]} or less; faint points: its other complete trials."
    return Chart(f"fronts-{cost}", figures_page.fronts_against(runs, cost), label, caption)


def _against(history: Sequence[Progress], axis: str) -> Chart:
    words = "; ".join(f"{one.name} ends at {one.volume[-1]:.4g}" for one in history)
    what = {"trials": "completed trials", "hours": "hours of training"}[axis]
    caption = {
        "trials": "Hypervolume after each completed trial, from the common reference point.",
        "hours": "Hypervolume over the time that workers spent on training, including stopped and failed trials.",
    }[axis]
    return Chart(
        f"progress-{axis}",
        figures_page.progress_against(history, axis),
        f"Chart of hypervolume by {what}. {words}.",
        caption,
    )


def _reference(runs: Sequence[Named]) -> Html:
    costs = common_costs([one.run for one in runs])
    accuracy, *most = reference([one.run for one in runs], costs)
    point = ", ".join(
        f"{format_price(cost, round(n) if cost in answer.COUNTS else n)} {NOUNS[cost]}"
        for cost, n in zip(costs, most, strict=True)
    )
    return tag(
        "p",
        tied(f"Common reference point: accuracy {format_percent(accuracy)} %, {point}; costs on log10 axes."),
        class_="quiet",
    )


def _budgets(runs: Sequence[Named], cost: str) -> Html:
    """The best network of each run within round budgets, with a mark for the best of all."""
    counts = [trial.price(cost) for one in runs for trial in one.run.complete()]
    rows = []
    for limit in answer.round_budgets(min(counts), max(counts)):
        best = {one.name: _within(one.run, cost, limit) for one in runs}
        ahead = max((trial.accuracy or 0.0 for trial in best.values() if trial), default=0.0)
        cells = []
        for one in runs:
            trial = best[one.name]
            if trial is None:
                cells.append("–")
                continue
            error = 100 * answer.standard_error(one.run, trial)
            mark = " ◀" if trial.accuracy == ahead else ""
            cells.append(f"{format_percent(trial.accuracy or 0.0)} ± {error:.2f} ({trial.name}){mark}")
        rows.append((f"{answer.round_price(cost, limit)} {NOUNS[cost]}", *cells))
    caption = (
        "The most accurate network of each run within a budget, in % ± one standard error; ◀ marks the best of the row."
    )
    return table(caption, ("At most", *(one.name for one in runs)), rows)


def _within(run: Run, cost: str, limit: float) -> Trial | None:
    fitting = [trial for trial in run.complete() if trial.price(cost) <= limit]
    return max(fitting, key=lambda trial: (trial.accuracy or 0.0, -trial.cost.macs), default=None)


def _shared(runs: Sequence[Named]) -> Html:
    """Networks that several runs trained to the end, whose accuracies differ only by chance or by the recipe."""
    by_digest: dict[str, dict[str, Trial]] = {}
    for one in runs:
        for trial in one.run.complete():
            by_digest.setdefault(trial.digest, {})[one.name] = trial
    both = [trained for trained in by_digest.values() if len(trained) > 1]
    if not both:
        return Html("")
    both.sort(key=lambda trained: -max(trial.accuracy or 0.0 for trial in trained.values()))
    rows = [
        (
            " = ".join(dict.fromkeys(trial.name for trial in trained.values())),
            *(format_percent(trained[one.name].accuracy or 0.0) if one.name in trained else "–" for one in runs),
        )
        for trained in both[:MOST]
    ]
    spread = [abs(a - b) for trained in both for a, b in [_extremes(trained)]]
    caption = (
        f"{'1 network was' if len(both) == 1 else f'{len(both):,} networks were'} trained by more than one run; in %. The accuracies differ"
        f" by {100 * float(np.mean(spread)):.2f} points{' in the mean' if len(both) > 1 else ''}"
        f"{f', the first {MOST} are shown' if len(both) > MOST else ''}."
    )
    return table(caption, ("Network", *(one.name for one in runs)), rows, numbers=tuple(range(1, len(runs) + 1)))


MOST = 20  # shared networks in the table


def _extremes(trained: Mapping[str, Trial]) -> tuple[float, float]:
    accuracies = [trial.accuracy or 0.0 for trial in trained.values()]
    return max(accuracies), min(accuracies)


def _differences(runs: Sequence[Named]) -> Html:
    """Settings in which the runs differ, one in each row."""
    flat = [dict(_flat(one.run.config)) for one in runs]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    rows = [
        (key, *(_clipped(settings.get(key, "–")) for settings in flat))
        for key in keys
        if len({settings.get(key) for settings in flat}) > 1
    ]
    caption = "Settings that differ between these runs." if rows else "All settings are the same."
    return table(caption, ("Setting", *(one.name for one in runs)), rows)


def _flat(value: object, name: str = "") -> list[tuple[str, str]]:
    """Settings as (dotted name, text) pairs."""
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}".lstrip("."))]
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return [(name, ", ".join(str(item.get("name", item)) for item in value))]
    return [(name, format_setting(value))]


def _clipped(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]} …"
