"""The page's sections, one function each, from a run to HTML. All text goes through `markup`, which escapes it."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nas.analysis.accounting import AGAIN
from nas.networks.describe import describe
from nas.report.html.markup import Html, table, tag
from nas.report.run import confirmed_section, summary
from nas.report.run.summary import COUNTS, NOUNS
from nas.report.run.tables import estimated, mean_cell
from nas.runs.layout import CONFIG, TRIALS
from nas.runs.records import Trial
from nas.utils.text import format_count, format_percent, format_seconds, format_setting, shown

if TYPE_CHECKING:
    from nas.runs.run import Run

MACS = "MACs are multiply-adds per image, what the ResNet paper calls FLOPs."
NETWORKS = (
    "In a network's description, 3×64 is a stage of 3 blocks with 64 channels, and 32×4d is cardinality × group width;"
    " what differs between stages stands in brackets."
)
MAX_REASON = 2000  # characters of a failure's reason, of which a traceback has many more
MAX_LIST = 20
MAX_REASONS = 200
LEADS = 2  # comparisons with baselines at the top of the page


def opening(run: Run) -> Html:
    """Title and summary: comparisons with baselines, what was searched and how far, the recommended networks."""
    status = summary.STATUS[run.status]
    title = tag(
        "div", tag("h1", str(run.config["name"])), tag("span", status, class_=f"badge {run.status}"), class_="title"
    )
    lead = [tag("p", tied(text), class_="lead") for text in summary.comparisons(run)[:LEADS]]
    if not run.complete():
        failures = f": {run.failures()}" if run.failures() else ""
        lead = [
            tag(
                "p",
                "No trial has been trained to the end yet, so there is no front and no network to recommend",
                failures,
                ".",
            )
        ]
    facts = tag("p", tied(f"{summary.searched(run)} {summary.progress(run)}"), class_="quiet")
    resume = [] if run.status != "unfinished" else [tag("p", "To resume: ", tag("code", f"nas resume {_path(run)}"))]
    return tag("header", title, *lead, facts, *resume, _bar(run), _picks(run))


def notes(run: Run) -> list[Html]:
    """Uncertainty of the accuracies, and how networks are described."""
    paragraphs = [tag("p", tied(text)) for text in summary.comparisons(run)[LEADS:]]
    if len(run.front()) > 2 and summary.knee(run) is None:
        paragraphs.append(tag("p", "The front has no knee: no network stands out as a compromise."))
    if confirmed_section.is_begun(run):
        paragraphs.append(tag("p", *_with_code(tied(" ".join(confirmed_section.sentences(run))))))
    return [*paragraphs, tag("p", tied(f"{summary.caveat(run)} {MACS} {NETWORKS}"), class_="quiet")]


def _bar(run: Run) -> Html:
    """Progress bar; nothing once the run is done."""
    if run.status == "done":
        return Html("")
    trained, wanted = run.count("complete") + run.count("stopped"), run.config["trials"]
    words = f"{trained:,} of {wanted:,} trials trained"
    if so_far := run.confirmed_so_far():
        (trained, wanted), words = so_far, summary.confirming(run)
    bar = tag("progress", words, max=str(wanted), value=str(trained), aria_label=words)
    return tag("p", bar, f" {words}", class_="far")


def _picks(run: Run) -> Html:
    picks = summary.picks(run)
    if not picks:
        return Html("")
    cards = []
    for pick in picks:
        trial = pick.trial
        mark, error = format_percent(run.accuracy(trial) or 0.0), f"± {100 * summary.standard_error(run, trial):.2f}"
        numbers = ", ".join(f"{format_count(getattr(trial.cost, name))} {NOUNS[name]}" for name in COUNTS[:2])
        show = tag(
            "button",
            "its design",
            type="button",
            data_trial=str(trial.number),
            class_="show",
            aria_label=f"Show the design of {trial.name}",
        )
        card = tag(
            "li",
            tag("div", tag("h3", pick.title), show, class_="top"),
            tag("p", tied(f"{trial.name}: {mark} %"), " ", tag("span", error, class_="error"), class_="name"),
            tag("p", numbers, class_="costs"),
            tag("p", f"{pick.why[0].upper()}{pick.why[1:]}.", class_="quiet"),
            tag("p", describe(trial.architecture), class_="quiet"),
            class_="knee" if pick.title == summary.KNEE else "pick",
        )
        cards.append(card)
    return tag("ul", *cards, class_="picks")


def front_table(run: Run) -> list[Html]:
    """The front from its cheapest network to its most expensive, and how to export one."""
    front = run.front()
    if not front:
        return []
    notes: dict[int, list[str]] = defaultdict(list)
    for pick in summary.picks(run):
        notes[pick.trial.number].append(pick.title.lower())
    again = any(trial.confirmed for trial in front)
    rows = [
        (
            trial.label or str(trial.number),
            _percent(trial),
            *([mean_cell(estimated(trial))] if again else []),
            *_counts(trial),
            describe(trial.architecture),
            ", ".join(notes[trial.number]),
        )
        for trial in front
    ]
    nouns = " and ".join(NOUNS[name] for name in summary.costs(run))
    which, by = ("confirmed", "mean validation accuracy") if run.by_means else ("complete", "validation accuracy")
    caption = f"Pareto-optimal networks: no other {which} one is better in {by} and {nouns} at once. From the cheapest."
    mean = ["Mean ± s.e. (seeds), %"] if again else []
    head = (
        "Trial",
        "In the search, %" if again else "Accuracy, %",
        *mean,
        "Parameters",
        "MACs",
        "Activations",
        "Network",
        "Note",
    )
    numbers = tuple(range(1, 5 + len(mean)))
    chosen = summary.picks(run)[0].trial
    command = f"nas export {_path(run)} --trial {shlex.quote(chosen.label or str(chosen.number))}"
    return [
        table(caption, head, rows, numbers=numbers, words=(numbers[-1] + 1,)),
        tag("p", "To export the config of a network: ", tag("code", command)),
    ]


def failures(run: Run) -> list[Html]:
    """Reasons of failure, each with its trials; nothing if none failed."""
    trials: dict[tuple[str, str], list[str]] = defaultdict(list)
    for trial in run.trials:
        if trial.state == "failed":
            reason = trial.reason.strip() or "no reason was recorded"
            trials[reason, trial.cause or "–"].append(trial.label or str(trial.number))
    if not trials:
        return []
    ranked = sorted(trials.items(), key=lambda item: -len(item[1]))
    rows = [
        (str(len(names)), _value(names), cause, _clipped(reason)) for (reason, cause), names in ranked[:MAX_REASONS]
    ]
    which = (
        "by reason" if len(ranked) <= MAX_REASONS else f"by the {MAX_REASONS} most frequent of {len(ranked):,} reasons"
    )
    caption = f"Failed trials {which}. They have no accuracy and are on no chart; their networks are in {TRIALS}/NUMBER/{CONFIG}."
    head = ("Trials", "Which", "Cause", "Reason")
    return [table(caption, head, rows, words=(2, 3))]


def time(run: Run) -> list[Html]:
    """Training time by state of the trials and by session of the driver; nothing before the first epoch."""
    spent: dict[str, list[Trial]] = defaultdict(list)
    for trial in run.trials:
        if trial.epochs:
            spent["baselines" if trial.label else trial.state].append(trial)
    if not spent:
        return []
    rows = [_spent(state, trials) for state, trials in spent.items()]
    searched = [trial for trials in spent.values() for trial in trials]
    again = [repeat.seconds for trial in run.trials for repeat in trial.repeats]
    caption = "Worker time by state of the trials."
    rows.append(_spent("the search" if again else "all", searched))
    if again:
        caption = f"{caption[:-1]}; {AGAIN}: the trainings of nas confirm, whose epochs are not recorded."
        rows.append(_lasted(AGAIN, "–", again))
        rows.append(_lasted("all", "–", [*again, *(trial.seconds for trial in searched)]))
    head = ("Trials", "Number", "Epochs", "Training and validation", "Each")
    parts = [table(caption, head, rows, numbers=(1, 2, 3, 4))]
    if run.sessions:
        parts.append(_sessions(run.sessions))
    return parts


def _spent(state: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    epochs = sum(len(trial.epochs) for trial in trials)
    return _lasted(state, f"{epochs:,}", [trial.seconds for trial in trials])


def _lasted(what: str, epochs: str, seconds: Sequence[float]) -> tuple[str, ...]:
    total = sum(seconds)
    return what, f"{len(seconds):,}", epochs, format_seconds(total), format_seconds(total / len(seconds))


def _sessions(sessions: Iterable[Mapping[str, float]]) -> Html:
    rows = []
    for number, session in enumerate(sessions, 1):
        capacity = session["search_seconds"] * session["workers"]
        share = f"{session['training_seconds'] / capacity:.0%}" if capacity else "–"
        begun = datetime.fromtimestamp(session["begun"], UTC).strftime("%Y-%m-%d %H:%M UTC")
        spans = (format_seconds(session[f"{name}_seconds"]) for name in ("startup", "search", "training"))
        rows.append((str(number), begun, f"{session['workers']:g}", *spans, share))
    head = ("Session", "Begun", "Workers", "Start-up", "Search", "Training", "Share of the workers' time")
    caption = "Sessions of the search that ended normally. Training is summed over the workers."
    return table(caption, head, rows, numbers=(1, 2, 3, 4, 5, 6))


def provenance(run: Run) -> list[Html]:
    """What is needed to reproduce the run: command, recipe, data, seeds, versions."""
    config = run.config
    data = {key: value for key, value in config["dataset"].items() if value is not None}
    search = {
        "space": config["space"]["name"],
        "objectives": config["objectives"],
        "budgets": [_budget(name, *bounds) for name, bounds in config["budgets"].items()] or "none",
        "sampler": config["sampler"],
        "stopping": _stopping(config.get("stopping") or {}),
        "seed": config["seed"],
        "trials": config["trials"],
        "baselines": [entry["name"] for entry in config["baselines"]] or "none",
        "executor": config["executor"]["kind"],
        **{key: value for key, value in config["executor"].items() if key != "kind" and value is not None},
        "device": config["device"],
        "precision": config["precision"],
        **({"steps a gradient norm is averaged over": steps} if (steps := config.get("gradient_steps")) else {}),
        "hypervolume reference": summary.reference(run),
        "begun": config["created"],
        "folder": str(run.path),
    }
    tables = [
        facts("Recipe of the proxies", {**config["recipe"], **(config.get("proxy") or {})}),
        facts("Data", data),
        facts("Search", search),
        facts("Versions", config["versions"]),
    ]
    return [
        tag("pre", tag("code", str(config["command"]) or "(called from Python)"), tabindex="0", aria_label="Command"),
        tag("div", *tables, class_="facts"),
        tag(
            "details",
            tag("summary", "The search space"),
            tag("pre", str(config["space"].get("text", "")), tabindex="0"),
        ),
    ]


def facts(caption: str, facts: Mapping[str, object]) -> Html:
    known = ((key.replace("_", " "), _value(value)) for key, value in facts.items() if value is not None)
    return table(caption, ("What", "Value"), known)


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        items = ", ".join(map(format_setting, value[:MAX_LIST]))
        return items if len(value) <= MAX_LIST else f"{items} and {len(value) - MAX_LIST:,} more"
    return format_setting(value)


def _stopping(policy: Mapping[str, object]) -> str:
    """A policy with its options, which are left out for the policy `none`."""
    name, options = policy.get("name", "none"), (f"{key} {value}" for key, value in policy.items() if key != "name")
    return ", ".join([str(name), *(options if name != "none" else ())])


def _budget(name: str, low: float | None, high: float | None) -> str:
    bounds = [
        f"{word} {format_count(int(end))}" for word, end in (("at least", low), ("at most", high)) if end is not None
    ]
    return f"{NOUNS.get(name, name)} {' and '.join(bounds)}"


def _counts(trial: Trial) -> tuple[str, ...]:
    return tuple(format_count(getattr(trial.cost, name)) for name in COUNTS)


def _percent(trial: Trial) -> str:
    return format_percent(trial.accuracy or 0.0)


def _path(run: Run) -> str:
    return shlex.quote(shown(run.path))


def _with_code(text: str) -> list[str]:
    """Text split so that what is between backticks becomes code."""
    return [tag("code", part) if place % 2 else part for place, part in enumerate(text.split("`"))]


def tied(text: str) -> str:
    """The text with non-breaking spaces between numbers and units."""
    return re.sub(r"(?<=\d) (?=[%kMGT]\b|%)", "\u00a0", text)


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} ..."
