"""The page's interactive parts: elements that its scripts (js/) fill, and what can be shown without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.report.html.markup import Html, table, tag
from nas.report.run import summary
from nas.report.run.page_data import EXECUTED, timed
from nas.report.run.summary import COUNTS, NOUNS
from nas.report.run.tables import STATES
from nas.utils.text import format_percent, format_price, shown

if TYPE_CHECKING:
    from nas.runs.run import Run


def against_cost(run: Run) -> list[Html]:
    """The chart with its controls, the panel of the chosen trial, the budget; nothing before the first epoch of any trial."""
    if not any(trial.epochs for trial in run.trials):
        return []
    label = f"Chart of validation accuracy against cost of {len(run.complete())} complete trials."
    drawing = tag("div", id="explorer", class_="plot", tabindex="0", role="group", aria_label=label)
    figure = tag("figure", tag("div", drawing, class_="stage"), tag("figcaption", _caption(run)))
    panel = tag("aside", id="detail", aria_label="The chosen trial")
    return [
        _choices(run),
        tag("div", tag("div", figure, *_budget(run)), panel, class_="explorer"),
        tag("p", "", id="announced", class_="unseen", role="status"),
        tag("noscript", tag("p", "The chart needs JavaScript; the table of the front below does not.")),
    ]


def _choices(run: Run) -> Html:
    names = [*COUNTS, *timed(run), *([EXECUTED] if any(trial.executed for trial in run.trials) else [])]
    first = summary.costs(run)[0]
    costs = [_option(name, NOUNS[name], chosen=name == first) for name in names]
    measures = [_option("accuracy", "accuracy", chosen=True), _option("error", "error")]
    cut_short = any(trial.epochs and trial.accuracy is None for trial in run.trials)
    return tag(
        "div",
        tag("label", "Against ", tag("select", *costs, id="explorer-cost")),
        tag("label", "show ", tag("select", *measures, id="explorer-measure")),
        _check("explorer-log-x", "log cost", checked=True),
        _check("explorer-log-y", "log error"),
        _check("explorer-bars", "standard errors", checked=run.by_means),
        _check("explorer-others", "trials cut short", checked=True, hidden=not cut_short),
        class_="controls",
        role="group",
        aria_label="What the chart shows",
    )


def _caption(run: Run) -> str:
    cost_names = " and ".join(NOUNS[name] for name in summary.costs(run))
    words = (
        f"Each point is a trial; filled ones are on the run's front, over accuracy and {cost_names}. The line is the best at this cost"
        " or less, so a member of the front may lie off it. Hover over a trial to see its name; click it, or step with the arrow"
        " keys, to see its design."
    )
    if run.by_means:
        words = (
            "Points with an error bar are means over further seeds, ± one standard error over these; filled ones are on the run's"
            f" front by means, over accuracy and {cost_names}. The line is the best confirmed network at this cost or less; the dotted one"
            " is the front of the search, by one training each, as are points without a bar. Hover over a trial to see its"
            " name; click it, or step with the arrow keys, to see its design."
        )
    if any(trial.epochs and trial.accuracy is None for trial in run.trials):
        words += (
            " Crosses are trials that were stopped, failed or are in training, at the last epoch that they reached."
        )
    return words


def _budget(run: Run) -> list[Html]:
    """The slider, and a table of a few budgets; hidden until a trial is complete."""
    costs = [name for name in COUNTS if name in {"params", "macs", *summary.costs(run)}] + timed(run)
    first = summary.costs(run)[0]
    options = [_option(name, NOUNS[name], chosen=name == first) for name in costs]
    slider = tag("input", type="range", id="budget", min="0", max="1000", value="1000", aria_label="Budget")
    number = tag(
        "input", type="text", id="budget-number", inputmode="text", size="9", aria_label="Budget, as 2M or 500k"
    )
    ask = tag(
        "div",
        tag("strong", "Within a budget of"),
        number,
        tag("select", *options, id="budget-cost", aria_label="Cost that the budget limits"),
        slider,
        class_="controls",
        role="group",
        aria_label="Budget",
    )
    rows = [
        (
            f"{summary.round_price(first, limit)} {NOUNS[first]}",
            trial.name,
            f"{format_percent(run.accuracy(trial) or 0.0)} ± {100 * summary.standard_error(run, trial):.2f}",
            *(format_price(name, trial.price(name)) for name in costs),
        )
        for limit, trial in summary.within_budgets(run)
    ]
    head = (
        "At most",
        "Take",
        "Accuracy, %",
        *(NOUNS[name].capitalize() if name == "params" else NOUNS[name] for name in costs),
    )
    over = " over its seeds" if run.by_means else ""
    caption = f"The most accurate network within some budgets; ± is one standard error{over}."
    static = table(caption, head, rows, numbers=tuple(range(2, len(head))))
    move = tag("p", "Move the slider, or write a number.", id="budget-pick", role="status")
    hidden = {} if rows else {"hidden": "hidden"}
    return [tag("div", ask, move, static, class_="budget", **hidden)]


def all_trials(run: Run) -> list[Html]:
    """The table of every trial, which the scripts fill; nothing before the first."""
    if not run.trials:
        return []
    states = [_option("", "all states", chosen=True), *(_option(state, state) for state in STATES)]
    tools = tag(
        "div",
        tag("input", type="search", id="trials-text", placeholder="Filter: words", aria_label="Filter by words"),
        tag("select", *states, id="trials-state", aria_label="Filter by state"),
        _check("trials-front", "front only"),
        tag("span", "", id="trials-count", role="status"),
        id="trials-tools",
        class_="controls",
        role="group",
        aria_label="Which trials the table shows",
    )
    caption = (
        "Only complete trials have an accuracy, since that of a shorter training is not comparable. A click on a row, or Enter,"
        " shows its design."
    )
    grid = tag("table", tag("caption", caption), tag("thead"), tag("tbody", id="trials-body"), id="trials-table")
    content = tag("div", grid, id="trials-scroll", tabindex="-1", role="region", aria_label="All trials")
    fallback = tag(
        "noscript", tag("p", f"This table needs JavaScript; nas front {shown(run.path)} --csv writes the front.")
    )
    return [tools, content, fallback]


def _option(value: str, text: str, *, chosen: bool = False) -> Html:
    return tag("option", text, value=value, **({"selected": "selected"} if chosen else {}))


def _check(name: str, text: str, *, checked: bool = False, hidden: bool = False) -> Html:
    state = {"checked": "checked"} if checked else {}
    box = tag("input", type="checkbox", id=name, **state)
    return tag("label", box, f" {text}", **({"hidden": "hidden"} if hidden else {}))
