"""Figures of distributions: EDFs of error, marginals and pairs of knobs, a space before and after narrowing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nas.analysis import edf as edfs
from nas.analysis.marginals import FALSE_FINDINGS, Marginal
from nas.analysis.marginals import marginals as rows_of
from nas.analysis.pairs import interactions, strongest_knobs
from nas.analysis.sample import Sample, sample
from nas.errors import UsageError
from nas.networks.blocks._base import Value
from nas.report.figures._base import DASHES, ROW, band, blank, counted, likely, plain, say, series, tint, titled
from nas.report.html import theme
from nas.report.run.summary import NOUNS
from nas.utils.registry import did_you_mean

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.analysis.refine import Refinement
    from nas.runs.run import Run

LARGEST = 26.0  # diameter in pixels of a mark that stands for all trials
MAX_CURVES = 6


def edf(run: Run, by: str | None = None) -> go.Figure:
    """EDF of the error of the complete trials, F(e) = share of errors below e, with 95 % bootstrap bands.

    by: a knob; then one curve for each of its values, up to six, at matched distributions of cost. UsageError if the run has
    no such knob.
    """
    trials = sample(run)
    if by is None:
        return draw_edf(edfs.edf(trials), f"{counted(len(trials), 'complete trial')} so far")
    _check_knob("edf", by, trials)
    factor = trials.knobs[by]
    sets = {f"{by} {value}": factor.codes == code for code, value in enumerate(factor.values)}
    return draw_edf(
        edfs.edf(trials, dict(list(sets.items())[:MAX_CURVES])), f"{counted(len(trials), 'complete trial')} so far"
    )


def refinement(run: Run) -> go.Figure:
    """EDFs of all trials and of those in the space that `nas refine` would write, costs matched."""
    from nas.analysis.refine import refine

    return draw_refinement(refine(run))


def draw_refinement(refined: Refinement) -> go.Figure:
    if not refined.narrowings:
        return say(
            blank("error", "share of trials below it"),
            f"nothing to narrow: the evidence of {counted(refined.trials, 'complete trial')}<br>supports no narrowing",
        )
    return draw_edf(refined.before_after, "too few trials are left in the narrowed space")


def draw_edf(comparison: edfs.Comparison | None, why: str) -> go.Figure:
    import plotly.graph_objects as go

    figure = blank("validation error", "share of trials below it")
    figure.update_xaxes(tickformat="~%").update_yaxes(tickformat="~%", range=[-0.02, 1.02])
    if comparison is None:
        return say(figure, f"{why};<br>from {edfs.LEAST} on there is a curve")
    for number, curve in enumerate(comparison.curves):
        role = "front" if len(comparison.curves) == 1 else series(number)
        x = [round(float(value), 6) for value in curve.errors]
        low, high, share = ([round(float(v), 4) for v in part] for part in (curve.low, curve.high, curve.share))
        figure.add_trace(band(x, low, high, role))
        figure.add_trace(
            go.Scatter(
                x=x,
                y=share,
                mode="lines",
                name=f"{plain(curve.name)} (n = {curve.trials:,})",
                meta=role,
                line={"color": theme.LIGHT[role], "width": 2, "dash": DASHES[number % len(DASHES)], "shape": "hv"},
                hovertemplate="%{y:.0%} have an error below %{x:.2%}<extra></extra>",
                showlegend=len(comparison.curves) > 1,
            )
        )
    if len(comparison.curves) == 1:  # nothing to match: each trial has the same weight
        return titled(figure, f"n = {comparison.curves[0].trials:,}, 95 % band")
    left = f"; {comparison.left_out:,} unmatched" if comparison.left_out else ""
    noun = NOUNS.get(comparison.complexity, comparison.complexity)
    return titled(figure, f"{noun} matched in {counted(comparison.bins, 'bin')}, 95 % bands{left}")


def marginals(run: Run) -> go.Figure:
    """For each value of each knob: its share of all trials (ring) and of those near the front (disc), areas to scale.

    Blue: significantly better at matched cost, orange: significantly worse (corrected for multiple tests), gray: neither. Near
    the front means in the best quarter of a bin of cost.
    """
    trials = sample(run)
    return draw_marginals(trials, rows_of(trials))


def draw_marginals(trials: Sample, rows: list[Marginal]) -> go.Figure:
    import plotly.graph_objects as go

    figure = blank("", "")
    if not rows:
        return say(figure, "no two complete trials differ in a knob yet")
    near = {key: int(trials.near[trials.knobs[key].exists].sum()) for key in trials.knobs}
    places = {}
    for key, factor in trials.knobs.items():
        places.update({(key, value): (k + 0.5) / len(factor.values) for k, value in enumerate(factor.values)})
    figure.add_trace(
        _marks(rows, places, "trial", "share of all trials", [row.trials / row.of for row in rows], ring=True)
    )
    kinds = {
        "front": "near the front: better",
        "baseline": "near the front: worse",
        "muted": "near the front: not significant",
    }
    for role, name in kinds.items():
        chosen = [row for row in rows if _role(row) == role]
        shares = [row.near / near[row.knob] if near[row.knob] else 0.0 for row in chosen]
        if chosen:
            figure.add_trace(_marks(chosen, places, role, name, shares))
    figure.add_trace(
        go.Scatter(
            x=[places[row.knob, row.value] for row in rows],
            y=[plain(row.knob) for row in rows],
            text=[f"<br>{plain(row.value)}" for row in rows],
            mode="text",
            name="values",
            textposition="bottom center",
            textfont={"size": 10, "color": theme.LIGHT["ink"]},
            meta="ink",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    figure.update_xaxes(range=[0, 1], visible=False)
    names = [plain(key) for key in trials.knobs]
    figure.update_yaxes(range=[len(names) - 0.3, -0.7], categoryorder="array", categoryarray=names, showgrid=False)
    figure.update_layout(height=140 + 1.8 * ROW * len(names), legend={"itemsizing": "constant"})
    return titled(
        figure, f"{counted(len(trials), 'complete trial')}, {int(trials.near.sum()):,} of them near the front"
    )


def _marks(
    rows: list[Marginal],
    places: dict[tuple[str, Value], float],
    role: str,
    name: str,
    shares: list[float],
    *,
    ring: bool = False,
) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[places[row.knob, row.value] for row in rows],
        y=[plain(row.knob) for row in rows],
        mode="markers",
        name=name,
        meta=role,
        marker={
            "color": theme.LIGHT[role],
            "symbol": "circle-open" if ring else "circle",
            "size": [max(LARGEST * float(np.sqrt(share)), 1.0) for share in shares],
            "line": {"width": 1.5 if ring else 0},
            "opacity": 1.0 if ring else 0.75,
        },
        hovertext=[_hover(row) for row in rows],
        hoverinfo="text",
    )


def _role(row: Marginal) -> str:
    return {None: "muted", True: "front", False: "baseline"}[row.better]


def _hover(row: Marginal) -> str:
    tested = plain(likely(row.q_worth)) if row.q_worth is not None else "too few to test"
    return "<br>".join(
        [
            f"<b>{plain(row.knob)} {plain(row.value)}</b>",
            f"{row.trials:,} of {counted(row.of, 'trial')}, {row.front} on the front",
            f"{row.near} near the front, {row.near_expected:.1f} by chance",
            f"{100 * row.worth:+.2f} points at matched cost ({tested})",
        ]
    )


def pairs(run: Run, first: str | None = None, second: str | None = None) -> go.Figure:
    """Mean residual accuracy at matched cost by the values of two knobs, in percentage points.

    Default: the pair with the most significant interaction, else the two most significant knobs. UsageError for a knob that
    the run lacks.
    """
    trials = sample(run)
    figure = blank("", "")
    for key in (first, second):
        if key is not None:
            _check_knob("pairs", key, trials)
    if len(trials.knobs) < 2:
        return say(figure, "no two knobs differ between complete trials yet")
    interaction = ""
    if first is None or second is None:
        first, second, interaction = _default_pair(trials, first)
    figure.add_trace(_heatmap(trials, first, second))
    figure.update_xaxes(title={"text": plain(first)}, type="category", showgrid=False)
    figure.update_yaxes(title={"text": plain(second)}, type="category", showgrid=False)
    return titled(figure, f"{len(trials):,} complete trials{interaction}")


def _check_knob(caller: str, key: str, trials: Sample) -> None:
    if key not in trials.knobs:
        known = list(trials.knobs)
        raise UsageError(
            f"{caller}: no knob {key!r}{did_you_mean(key, known)}; known: {', '.join(known) or 'none yet'}"
        )


def _default_pair(trials: Sample, first: str | None) -> tuple[str, str, str]:
    """The pair with the most significant interaction (one with `first`, if it is given), and a phrase about the interaction."""
    surest = [pair for pair in interactions(trials) if first in (None, pair.first, pair.second)]
    if surest and surest[0].q <= FALSE_FINDINGS:
        return surest[0].first, surest[0].second, f"; they interact ({plain(likely(surest[0].q))})"
    strong = [key for key in strongest_knobs(trials, len(trials.knobs)) if key != first]
    one, other = (strong[0], strong[1]) if first is None else (first, strong[0])
    return one, other, "; no significant interaction"


def _heatmap(trials: Sample, first: str, second: str) -> go.Heatmap:
    """Mean residual accuracy, in percentage points, by the values of two knobs."""
    import plotly.graph_objects as go

    a, b = trials.knobs[first], trials.knobs[second]
    means, counts = np.full((2, len(b.values), len(a.values)), np.nan)
    for i, j in np.ndindex(len(b.values), len(a.values)):
        cell = (a.codes == j) & (b.codes == i)
        counts[i, j] = cell.sum()
        if cell.any():
            means[i, j] = 100 * trials.residual[cell].mean()
    largest = max(float(np.nanmax(np.abs(means))), 0.01) if np.isfinite(means).any() else 1.0
    return go.Heatmap(
        x=[plain(value) for value in a.values],
        y=[plain(value) for value in b.values],
        z=[[None if np.isnan(v) else round(float(v), 4) for v in row] for row in means],
        text=[[_cell(v, int(n)) for v, n in zip(*both, strict=True)] for both in zip(means, counts, strict=True)],
        texttemplate="%{text}",
        zmin=-largest,
        zmax=largest,
        colorscale=[
            [0.0, tint("baseline", 0.6)],
            [0.5, tint("baseline", 0.0)],
            [0.5, tint("front", 0.0)],
            [1.0, tint("front", 0.6)],
        ],
        colorbar={"title": {"text": "points"}, "thickness": 10, "len": 0.9},
        name="points",
        meta="ink",
        textfont={"color": theme.LIGHT["ink"]},
        hovertemplate=f"{plain(first)} %{{x}}, {plain(second)} %{{y}}: %{{z:+.2f}} points<extra></extra>",
        xgap=2,
        ygap=2,
    )


def _cell(mean: float, count: int) -> str:
    return "" if not count else f"{mean:+.1f}<br>n = {count}"
