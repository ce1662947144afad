"""The page's analysis sections, one function each: from a run to text, figures and tables.

`ANALYSIS` lists them for `page.SECTIONS`. A section that a run can't fill yet is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

from nas.analysis import edf as edfs
from nas.analysis import importance as importances
from nas.analysis.accounting import AGAIN, account
from nas.analysis.marginals import LEAST, LEAST_HERE, Marginal, findings, marginals
from nas.analysis.rungs import Rung, rung_correlation
from nas.analysis.sample import sample
from nas.report import figures
from nas.report.figures._base import counted, likely
from nas.report.figures.distributions import draw_edf, draw_marginals, draw_refinement
from nas.report.figures.structure import draw_importance
from nas.report.html.markup import Html, table, tag
from nas.report.run.summary import NOUNS
from nas.utils.text import format_percent, format_seconds, shown

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.report.html.chart import Chart, Content
    from nas.runs.run import Run

Builder: TypeAlias = "Callable[[Run], Content]"

MAX_FINDINGS = 8
CELL, RAILS = 2.6, 38  # minimum widths in rem of a cell of the pairs chart and of all parallel axes
TARGETS = 2  # targets whose importances are drawn; the table has all of them


def _chart(name: str, figure: go.Figure, label: str, caption: str, rem: float = 0) -> Chart:
    from nas.report.html.chart import Chart

    return Chart(name, figure, label, caption, rem)


def importance(run: Run) -> Content:
    """Importance of the knobs (PED-ANOVA) for the distance to the front and for each objective."""
    trials = sample(run)
    wanted = [importances.GAP, "accuracy", *trials.costs]
    scores = importances.importances(trials, wanted)
    if not scores:
        return []
    gap = scores[0]
    telling = gap.telling
    read = (
        f"The distance to the front depends significantly on {_listed(telling[:5])}."
        if telling
        else "No knob has a significant importance for the distance to the front yet."
    )
    if trials and len(trials) < importances.SOUND:
        read += f" With {len(trials):,} trials the order of the bars is not reliable yet; about {importances.SOUND} trials are needed."
    charts = [
        _chart(
            f"importance-{number}",
            draw_importance(score, len(trials), score.target),
            f"Chart of the importance of knobs for {NOUNS.get(score.target, score.target)}: {_ranked(score)}.",
            (
                "Importance for accuracy at matched cost: read this first. The distance to the front is how far a trial's accuracy lies"
                " below the best, after subtracting the accuracy expected at its costs. Bars left of the dashed line may be noise."
                if score.target == importances.GAP
                else "Importance for accuracy regardless of cost: often the knobs that make a network large."
            ),
        )
        for number, score in enumerate(scores[:TARGETS])
    ]
    knobs = list(gap.values)
    rows = [(key, *(_importance(score, key) for score in scores)) for key in knobs]
    head = ("Knob", *(_capital(NOUNS.get(score.target, score.target)) for score in scores))
    caption = (
        "PED-ANOVA importance for each objective: divergence between the choices of the best quarter of the trials and of all"
        " trials. A star: larger than the largest importance of any knob in 19 shuffles of the objective (p < 0.05)."
    )
    numbers = tuple(range(1, len(scores) + 1))
    return [tag("p", read), *charts, table(caption, head, rows, numbers=numbers)]


def values(run: Run) -> Content:
    """Marginal effects of the knobs' values: which are significantly better or worse at matched cost."""
    trials = sample(run)
    rows = marginals(trials)
    if len(trials) < LEAST or not rows:
        return []
    sure = _without_mirrors(findings(rows))
    tested = sum(row.tested for row in rows)
    if sure:
        items = [tag("li", _sentence(row)) for row in sure[:MAX_FINDINGS]]
        more = (
            [tag("p", f"And {len(sure) - MAX_FINDINGS} more, with larger q.", class_="quiet")]
            if len(sure) > MAX_FINDINGS
            else []
        )
        words = [tag("p", "At the same cost,"), tag("ul", *items), *more]
    else:
        words = [tag("p", "At the same cost, no value differs significantly from the others of its knob.")]
    note = (
        f"{tested:,} of {len(rows):,} values were tested (at least {LEAST_HERE} trials each) by a rank test within bins of cost, at"
        " a false discovery rate of 5 %. The sampler tried promising values more often, so rare values were judged by few trials."
    )
    charts = [
        _chart(
            "values",
            draw_marginals(trials, rows),
            f"Chart of {counted(len(rows), 'value')} of {counted(len(trials.knobs), 'knob')}: their shares of all trials and of those"
            " near the front.",
            "A disc larger than its ring: the value is more frequent near the front than in all trials. Near the front means the"
            " best quarter at equal cost.",
        )
    ]
    if len(trials.knobs) > 1:
        cells = figures.pairs(run)
        charts.append(
            _chart(
                "pairs",
                cells,
                "Chart of mean accuracy at matched cost by the values of two knobs.",
                "Blue cells are more accurate than expected at their costs, orange ones less. Similar rows mean that the two knobs"
                " don't interact and can be chosen independently.",
                rem=12 + CELL * len(cells.data[0].x),
            )
        )
    return [*words, *charts, tag("p", note, class_="quiet")]


def lines(run: Run) -> Content:
    """Parallel coordinates of costs, knobs and accuracy."""
    trials = sample(run)
    if len(trials) < 2:
        return []
    return [
        _chart(
            "lines",
            figures.parallel_coordinates(run),
            f"Chart of {len(trials)} trials in parallel coordinates; {int(trials.front.sum())} are on the front.",
            "Where the bold lines cross an axis at one point, the networks of the front agree on that value; where they fan out,"
            " they don't. A line breaks at a knob that its network does not have.",
            rem=RAILS,
        )
    ]


def errors(run: Run) -> Content:
    """Empirical distribution function (EDF) of the error of the trials."""
    trials = sample(run)
    comparison = edfs.edf(trials)
    if comparison is None:
        return []
    tenth, half = (comparison.curves[0].quantiles[q] for q in edfs.QUANTILES)
    read = (
        f"The best tenth of the networks tried has an error below {_span(tenth)}; the median is {_span(half)}."
        " The steeper the curve rises on its left, the less a search in this space depends on luck."
    )
    label = f"Chart of the share of {len(trials)} trials below each error. {read}"
    caption = (
        "Each complete trial has the same weight; brackets and band are 95 % bootstrap intervals. The curve describes what this search"
        " tried: a search that tried larger networks has smaller errors even in the same space."
    )
    return [tag("p", read), _chart("edf", draw_edf(comparison, ""), label, caption)]


def rungs(run: Run) -> Content:
    """Rank correlation of early and final accuracy."""
    correlations = rung_correlation(run)
    if not correlations.rungs:
        return []
    early = correlations.rungs[0]
    read = (
        f"After epoch {early.epoch} of {correlations.epochs}, the ranks of {correlations.trials:,} trials agree with the final ones by"
        f" ρ = {_between(early.spearman)}."
    )
    read += _verdict(correlations.rungs)
    if correlations.stopped:
        read += f" {correlations.stopped:,} trials that were stopped early are not counted, which lowers ρ."
    label = f"Chart of rank correlation by epoch. {read}"
    caption = "Rank correlation of the accuracy after each epoch with the final one; bands or bars are 95 % bootstrap intervals."
    return [tag("p", read), _chart("rungs", figures.rung_correlation(run), label, caption)]


def spent(run: Run) -> Content:
    """Hypervolume over time, and what the workers' time was spent on."""
    spending = account(run)
    if not spending.items:
        return []
    training = sum(item.seconds for item in spending.items if item.trials)
    again = [repeat for trial in run.trials for repeat in trial.repeats]
    useful = sum(item.seconds for item in spending.items if item.name in ("complete", "baselines"))
    useful += sum(repeat.seconds for repeat in again if repeat.state == "complete")
    read = (
        f"Of {format_seconds(spending.seconds)} of worker time, {training / spending.seconds:.0%} was spent on training,"
        f" {useful / spending.seconds:.0%} on trainings that were completed."
        if spending.seconds
        else "No time was recorded."
    )
    charts = []
    if run.complete():
        charts.append(
            _chart(
                "hypervolume-over-time",
                figures.hypervolume_over_time(run),
                "Chart of hypervolume over the training time of all trials.",
                "Hypervolume over training time. Where the curve is flat, the front did not improve.",
            )
        )
    words = ", ".join(f"{item.name} {format_seconds(item.seconds)}" for item in spending.items)
    caption = "Hatched: no training. Orchestration is the time that workers waited between trials or at the end; start-up is the driver's."
    if again:
        caption += f" {AGAIN.capitalize()}: the trainings of nas confirm, for which only the training time is recorded."
    charts.append(
        _chart(
            "time-spent", figures.time_spent(run), f"Chart of what the workers' time was spent on: {words}.", caption
        )
    )
    return [tag("p", read), *charts]


def narrower(run: Run) -> Content:
    """The values that `nas refine` would remove from the space."""
    from nas.analysis.refine import refine

    refinement = refine(run)
    if not refinement.narrowings:
        return []
    rows = [
        (narrowing.knob, ", ".join(map(str, narrowing.kept)), str(drop.row.value), drop.reason)
        for narrowing in refinement.narrowings
        for drop in narrowing.dropped
    ]
    caption = "Values that are significantly worse at matched cost; none of them is on the present front."
    words = tag(
        "p",
        f"{refinement.inside:,} of {refinement.trials:,} complete trials lie in the narrowed space. To write it: ",
        tag("code", f"nas refine {shlex.quote(shown(run.path))}"),
    )
    parts: list[Html | Chart] = [words, table(caption, ("Knob", "Kept", "Dropped", "Reason"), rows, words=(3,))]
    if refinement.before_after is not None:
        label = "Chart of the share of trials below each error, of all trials and of those in the narrowed space."
        about = (
            "Retrospective: the same trials chose the narrowing, so its curve is optimistic. The curve “chosen by other trials” is"
            " cross-validated: each fifth of the trials is judged by a narrowing that the other four fifths chose."
        )
        parts.append(_chart("refinement", draw_refinement(refinement), label, about))
    return parts


ANALYSIS: tuple[tuple[str, str, Builder], ...] = (
    ("importance", "Hyperparameter importance (PED-ANOVA)", importance),
    ("values-near", "Knob values near the Pareto front", values),
    ("trials-as-lines", "Parallel coordinates", lines),
    ("errors", "Error distribution (EDF)", errors),
    ("early-epochs", "Rank correlation of early and final accuracy", rungs),
    ("hours", "Hypervolume over time and use of the workers", spent),
    ("narrower", "Narrower search space", narrower),
)


HIGH = 0.8  # rank correlation with the last epoch above which early stopping loses little


def _verdict(rungs: Sequence[Rung]) -> str:
    """Up to which epoch the interval of the correlation lies below `HIGH`, and from which epoch on above it."""
    low = list(takewhile(lambda rung: rung.spearman[2] < HIGH, rungs))
    high = list(takewhile(lambda rung: rung.spearman[1] >= HIGH, reversed(rungs)))
    verdicts = [f" Up to epoch {low[-1].epoch}, ρ is significantly below {HIGH:g}."] if low else []
    verdicts += (
        [f" From epoch {high[-1].epoch} on, ρ is significantly above {HIGH:g}: stopping there loses little."]
        if high
        else []
    )
    return "".join(verdicts) or f" There are too few trials to say whether ρ is above {HIGH:g} before the last epoch."


def _sentence(row: Marginal) -> str:
    better = "better" if row.better else "worse"
    return (
        f"{row.knob} {row.value} is {abs(100 * row.worth):.2f} points {better} than its other values on average"
        f" ({row.trials:,} of {row.of:,} trials, {row.near} of them near the front where chance expects {row.near_expected:.1f};"
        f" {likely(row.q_worth or 0.0)})."
    )


def _without_mirrors(rows: list[Marginal]) -> list[Marginal]:
    """Without the worse value of a knob with two values, which repeats the finding about the better one."""
    worths = {(row.knob, round(row.worth, 12)) for row in rows}
    return [row for row in rows if row.worth > 0 or (row.knob, round(-row.worth, 12)) not in worths]


def _importance(one: importances.Importance, key: str) -> str:
    value = one.values.get(key, 0.0)
    star = "\u00a0*" if key in one.telling else ""
    return f"{value:.3f}{star}"


def _ranked(one: importances.Importance) -> str:
    return ", ".join(f"{key} {value:.3f}" for key, value in list(one.values.items())[:5])


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _span(quantile: tuple[float, float, float]) -> str:
    value, low, high = quantile
    return f"{format_percent(value)} % ({format_percent(low)} to {format_percent(high)})"


def _between(correlation: tuple[float, float, float]) -> str:
    value, low, high = correlation
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
