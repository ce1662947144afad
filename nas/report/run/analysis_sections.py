"""The page's sections for those who want to know why: one function each, from a run to words, figures and tables.

`ANALYSIS` lists them as `page.SECTIONS` takes them. A section that a run can't fill yet is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

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
from nas.report.html.markup import table, tag
from nas.report.run.summary import NOUNS
from nas.utils.text import format_percent, format_seconds, shown

if TYPE_CHECKING:
    from nas.report.html.chart import Chart, Content
    from nas.runs.run import Run

Builder: TypeAlias = "Callable[[Run], Content]"

MAX_FINDINGS = 8
CELL, RAILS = 2.6, 38  # rem: of a cell of two knobs' values, of all rails; narrower, their words lie on one another
TARGETS = 2  # importances that are drawn; those for all targets are in the table


def _chart(name: str, figure: Any, label: str, caption: str, rem: float = 0) -> Chart:
    from nas.report.html.chart import Chart

    return Chart(name, figure, label, caption, rem)


def importance(run: Run) -> Content:
    """What the knobs matter, for the distance to the front and for each objective."""
    found = sample(run)
    wanted = [importances.GAP, "accuracy", *found.costs]
    made = importances.importances(found, wanted)
    if not made:
        return []
    gap = made[0]
    telling = gap.telling
    read = (
        f"Beyond what noise reaches, the distance to the front depends on {_listed(telling[:5])}."
        if telling
        else "For the distance to the front, no knob can be told from noise yet."
    )
    if found and len(found) < importances.SOUND:
        read += f" With {len(found):,} trials the order of the bars is not settled; from about {importances.SOUND} on it is."
    charts = [
        _chart(
            f"importance-{number}",
            draw_importance(one, len(found), one.target),
            f"Chart of the importance of knobs for {NOUNS.get(one.target, one.target)}: {_ranked(one)}.",
            (
                "What makes a network good for its cost: read this first. The distance to the front is by how much a trial is less"
                " accurate than the best, each measured by what its costs let expect. Bars left of the dashed line may be noise."
                if one.target == importances.GAP
                else "What makes a network accurate, whatever it costs: often what makes it large."
            ),
        )
        for number, one in enumerate(made[:TARGETS])
    ]
    knobs = list(gap.values)
    rows = [(key, *(_importance(one, key) for one in made)) for key in knobs]
    head = ("Knob", *(_capital(NOUNS.get(one.target, one.target)) for one in made))
    caption = (
        "PED-ANOVA importance for each objective: how differently the best quarter of the trials chose. A star: beyond the largest"
        " of any knob in 19 shuffles of the objective, which chance exceeds once in 20 times."
    )
    numbers = tuple(range(1, len(made) + 1))
    return [tag("p", read), *charts, table(caption, head, rows, numbers=numbers)]


def values(run: Run) -> Content:
    """Which values live near the front, in words where the statistics carry them."""
    found = sample(run)
    rows = marginals(found)
    if len(found) < LEAST or not rows:
        return []
    sure = _without_mirrors(findings(rows))
    tested = sum(row.tested for row in rows)
    if sure:
        items = [tag("li", _said(row)) for row in sure[:MAX_FINDINGS]]
        more = (
            [tag("p", f"And {len(sure) - MAX_FINDINGS} more, less sure.", class_="quiet")]
            if len(sure) > MAX_FINDINGS
            else []
        )
        words = [tag("p", "At the same cost,"), tag("ul", *items), *more]
    else:
        words = [
            tag("p", "At the same cost, no value is told from the others of its knob: what differs may be chance.")
        ]
    note = (
        f"{tested:,} of {len(rows):,} values were tested (at least {LEAST_HERE} trials each) by ranks within bins of cost, and at"
        " most 5 % of such findings are false on average. The sampler chose what to try by what it had seen, so rare values"
        " were judged by few trials."
    )
    charts = [
        _chart(
            "values",
            draw_marginals(found, rows),
            f"Chart of {counted(len(rows), 'value')} of {counted(len(found.knobs), 'knob')}: their shares of all trials and of those"
            " near the front.",
            "A disc larger than its ring: the value is found near the front more often than in all trials. Near the front is the"
            " best quarter at equal cost.",
        )
    ]
    if len(found.knobs) > 1:
        cells = figures.pairs(run)
        charts.append(
            _chart(
                "pairs",
                cells,
                "Chart of mean accuracy at matched cost by the values of two knobs.",
                "Blue cells do better than their costs let expect, orange ones worse. Rows that are alike mean that the two knobs"
                " can be chosen apart.",
                rem=12 + CELL * len(cells.data[0].x),
            )
        )
    return [*words, *charts, tag("p", note, class_="quiet")]


def lines(run: Run) -> Content:
    """Trials as lines."""
    found = sample(run)
    if len(found) < 2:
        return []
    return [
        _chart(
            "lines",
            figures.parallel_coordinates(run),
            f"Chart of {len(found)} trials as lines through their costs, knobs and accuracy; {int(found.front.sum())} are on the front.",
            "Where the strong lines pass one rail at one place, the front agrees on that value; where they fan out, it is free."
            " A line breaks at a knob that its network does not have.",
            rem=RAILS,
        )
    ]


def errors(run: Run) -> Content:
    """How good the networks that were tried are."""
    found = sample(run)
    made = edfs.edf(found)
    if made is None:
        return []
    tenth, half = (made.curves[0].quantiles[q] for q in edfs.QUANTILES)
    read = (
        f"Of the networks tried, the best tenth has an error below {_span(tenth)}, half one below {_span(half)}."
        " The steeper the curve on its left, the less a search in this space depends on luck."
    )
    label = f"Chart of the share of {len(found)} trials below each error. {read}"
    caption = (
        "Each complete trial counts the same; brackets and band hold 95 % of bootstrap samples. It is of what this search tried: one"
        " that tried larger networks has smaller errors without being of a better space."
    )
    return [tag("p", read), _chart("edf", draw_edf(made, ""), label, caption)]


def rungs(run: Run) -> Content:
    """What early epochs told of the last."""
    found = rung_correlation(run)
    if not found.rungs:
        return []
    early = found.rungs[0]
    read = (
        f"Behind epoch {early.epoch} of {found.epochs}, the ranks of {found.trials:,} trials agree with the final ones by"
        f" ρ = {_between(early.spearman)}."
    )
    read += _verdict(found.rungs)
    if found.stopped:
        read += f" The {found.stopped:,} trials that were stopped early are not counted, which lowers ρ."
    label = f"Chart of rank correlation by epoch. {read}"
    caption = "How well the accuracy behind an epoch ranks the trials as the last one does; bands or bars hold 95 % of bootstrap samples."
    return [tag("p", read), _chart("rungs", figures.rung_correlation(run), label, caption)]


def spent(run: Run) -> Content:
    """What the time bought, and where it went."""
    found = account(run)
    if not found.items:
        return []
    training = sum(item.seconds for item in found.items if item.trials)
    again = [repeat for trial in run.trials for repeat in trial.repeats]
    useful = sum(item.seconds for item in found.items if item.name in ("complete", "baselines"))
    useful += sum(repeat.seconds for repeat in again if repeat.state == "complete")
    read = (
        f"Of {format_seconds(found.seconds)} of workers, {training / found.seconds:.0%} went into training,"
        f" {useful / found.seconds:.0%} into trainings that were completed."
        if found.seconds
        else "No time was recorded."
    )
    charts = []
    if run.complete():
        charts.append(
            _chart(
                "hypervolume-over-time",
                figures.hypervolume_over_time(run),
                "Chart of hypervolume over the hours that all trials took.",
                "What the hours bought: where the curve is flat, more of them bought nothing.",
            )
        )
    words = ", ".join(f"{item.name} {format_seconds(item.seconds)}" for item in found.items)
    caption = "Hatched: no training. Orchestration is what workers waited between trials or at the end; start-up is the driver's."
    if again:
        caption += f" {AGAIN.capitalize()}: the trainings of nas confirm, of which no more is known."
    charts.append(
        _chart("time-spent", figures.time_spent(run), f"Chart of where the workers' time went: {words}.", caption)
    )
    return [tag("p", read), *charts]


def narrower(run: Run) -> Content:
    """What `nas refine` would drop from the space."""
    from nas.analysis.refine import refine

    found = refine(run)
    if not found.narrowings:
        return []
    rows = [
        (narrowing.knob, ", ".join(map(str, narrowing.kept)), str(drop.row.value), drop.reason)
        for narrowing in found.narrowings
        for drop in narrowing.dropped
    ]
    caption = "Values that the trials speak against at matched cost; none of the present front is among them."
    words = tag(
        "p",
        f"{found.inside:,} of {found.trials:,} complete trials lie in the narrowed space. To write it: ",
        tag("code", f"nas refine {shlex.quote(shown(run.path))}"),
    )
    parts: list[Any] = [words, table(caption, ("Knob", "Stays", "Goes", "Why"), rows, words=(3,))]
    if found.before_after is not None:
        label = "Chart of the share of trials below each error, of all trials and of those in the narrowed space."
        about = (
            "Retrospective: the same trials chose the narrowing, so its curve flatters it. The curve “chosen by other trials” does"
            " not: each fifth of the trials is judged by a narrowing that the other four fifths chose."
        )
        parts.append(_chart("refinement", draw_refinement(found), label, about))
    return parts


ANALYSIS: tuple[tuple[str, str, Builder], ...] = (
    ("importance", "What matters", importance),
    ("values-near", "Which values live near the front", values),
    ("trials-as-lines", "Trials as lines", lines),
    ("errors", "How good the space is", errors),
    ("early-epochs", "What early epochs told", rungs),
    ("hours", "What the hours bought", spent),
    ("narrower", "A narrower space", narrower),
)


HIGH = 0.8  # rank correlation with the last epoch, above which stopping loses little


def _verdict(rungs: Sequence[Rung]) -> str:
    """Up to which epoch the correlation is surely low, from which on surely high; that neither can be told, where it can't."""
    low = list(takewhile(lambda rung: rung.spearman[2] < HIGH, rungs))
    high = list(takewhile(lambda rung: rung.spearman[1] >= HIGH, reversed(rungs)))
    said = [f" Up to epoch {low[-1].epoch}, ρ is surely below {HIGH:g}."] if low else []
    said += (
        [f" From epoch {high[-1].epoch} on, ρ is surely above {HIGH:g}: stopping there loses little."] if high else []
    )
    return "".join(said) or f" Whether ρ is above {HIGH:g} before the last epoch, so few trials can't tell."


def _said(row: Marginal) -> str:
    better = "better" if row.better else "worse"
    return (
        f"{row.knob} {row.value} is {abs(100 * row.worth):.2f} points {better} than its other values on average"
        f" ({row.trials:,} of {row.of:,} trials, {row.near} of them near the front where chance expects {row.near_expected:.1f};"
        f" {likely(row.q_worth or 0.0)})."
    )


def _without_mirrors(rows: list[Marginal]) -> list[Marginal]:
    """Of a knob with two values the one finding is that the better is better."""
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
