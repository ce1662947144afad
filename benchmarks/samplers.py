"""The comparison of samplers in README.md: its studies, in samplers.csv, and its tables.

uv run python benchmarks/samplers.py                          # prints README's tables
uv run python benchmarks/samplers.py --run gp,qlognehvi --repeats 20 --nas-bench-201 nasbench201.csv

--run adds the missing studies, repeat by repeat and each one as soon as it has ended, so that slow samplers can be run
a few studies at a time. The protocol is that of `nas bench` with a budget of 150 networks and seed 0.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.bench.folder import Folder
from nas.bench.replay import Protocol, Repeat
from nas.bench.samplers import OPTUNA, check
from nas.bench.summary import standard_error
from nas.bench.table import SHIPPED, Columns, Table, read
from nas.errors import UsageError
from nas.utils.files import write_text

KEPT = Path(__file__).with_name("samplers.csv")
UNIT = 1000  # fractions of the hypervolume are stored in thousandths
BUDGET, MARKS = 150, (12, 25, 50, 100, 150)
AIM, LEVEL_AT, ENOUGH, DRAWS = 40, 100, 20, 4000
MACRO, CELLS = "NAS-Bench-Macro", "NAS-Bench-201"
COSTS = {
    (MACRO, "MACs"): ("flops",),
    (MACRO, "params"): ("params",),
    (MACRO, "both"): ("params", "flops"),
    (CELLS, "MACs"): ("macs",),
    (CELLS, "params"): ("params",),
    (CELLS, "both"): ("params", "macs"),
}
OURS = "known-cost"
BASELINES = ("tpe", "gp", "qlognehvi", "nsga2-20", "nsga2-50", "nsga3", "evolution", "local", "random")
WITHOUT = {
    "cost features": f"{OURS}:cost_features=false",
    "mutation": f"{OURS}:mutation=false",
    "volume (plain EI)": f"{OURS}:acquisition=ei",
}


class Key(NamedTuple):
    """Key of a study. parallel: trainings at once."""

    table: str
    costs: str
    parallel: int
    sampler: str
    repeat: int


@dataclass(frozen=True)
class Study:
    """hypervolume: fractions after each network, in units of 1 / UNIT. ask_seconds: sum over all `asks`."""

    hypervolume: tuple[int, ...]
    asks: int
    ask_seconds: float


Studies = dict[Key, Study]


# -- the file ------------------------------------------------------------------------------------------------------------


def study(own: Repeat) -> Study:
    return Study(tuple(round(UNIT * share) for share in own.hypervolume), own.asks, own.sampler_seconds)


def packed(curve: Sequence[int]) -> str:
    """The changes of a curve that begins at 0: `3+120 2-4` means 120 more at the third network and 4 less two networks later."""
    changes, before, at = [], 0, 0
    for place, value in enumerate(curve, 1):
        if value != before:
            changes.append(f"{place - at}{value - before:+d}")
            before, at = value, place
    return " ".join(changes)


def unpacked(text: str, networks: int) -> tuple[int, ...]:
    steps, at = np.zeros(networks, dtype=int), 0
    for change in text.split():
        gap, sign, size = change.partition("-" if "-" in change else "+")
        at += int(gap)
        steps[at - 1] = int(sign + size)
    return tuple(np.cumsum(steps).tolist())


def load(path: Path) -> Studies:
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {
            Key(row["table"], row["costs"], int(row["parallel"]), row["sampler"], int(row["repeat"])): Study(
                unpacked(row["curve"], int(row["networks"])), int(row["asks"]), float(row["ask_seconds"])
            )
            for row in csv.DictReader(file)
        }


def save(path: Path, studies: Studies) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Key._fields, "networks", "asks", "ask_seconds", "curve"])
    for key, own in sorted(studies.items()):
        writer.writerow([*key, len(own.hypervolume), own.asks, f"{own.ask_seconds:.2f}", packed(own.hypervolume)])
    write_text(path, text.getvalue())


# -- running -------------------------------------------------------------------------------------------------------------


def run(path: Path, names: Sequence[str], repeats: int, parallel: int, cells: str | None, jobs: int) -> None:
    """The studies that the file lacks, problem by problem within a repeat."""
    for name in names:
        check(name)
    tables: dict[tuple[str, str], Table] = {}
    for (table, costs), columns in COSTS.items():  # read all tables before any study runs
        if table == MACRO:
            tables[table, costs] = read(next(iter(SHIPPED)), Columns(costs=columns))
        elif cells is not None:
            tables[table, costs] = read(cells, Columns(split=("ops",), accuracy=("c10_val",), costs=columns))
    for up_to in range(1, repeats + 1):
        for (table, costs), known in tables.items():
            folder = Folder(None, known, Protocol(BUDGET, parallel), names, up_to)
            have = [key for key in load(path) if key[:3] == (table, costs, parallel)]
            folder.done = [Repeat(key.sampler, key.repeat) for key in have]
            for own in folder.run(jobs):
                save(path, {**load(path), Key(table, costs, parallel, own.sampler, own.repeat): study(own)})
                print(
                    f"{table}, {costs}: {own.sampler}, repeat {own.repeat}, {own.hypervolume[-1]:.4f} "
                    f"in {own.seconds:.0f} s",
                    flush=True,
                )


# -- tables --------------------------------------------------------------------------------------------------------------


class Curves:
    """Studies of one sampler on one problem: percentages, (n, networks), NaN after a study's end; repeats (n,)."""

    def __init__(self, studies: Studies, table: str, costs: str, sampler: str, parallel: int = 1) -> None:
        own = {key.repeat: one for key, one in sorted(studies.items()) if key[:4] == (table, costs, parallel, sampler)}
        self.repeats = list(own)
        self.share = np.full((len(own), BUDGET), np.nan)
        for row, one in zip(self.share, own.values(), strict=True):
            curve = one.hypervolume[:BUDGET]
            row[: len(curve)] = np.array(curve) * 100 / UNIT
        self.seconds = sum(one.ask_seconds for one in own.values()) / max(sum(one.asks for one in own.values()), 1)

    def of(self, repeats: Sequence[int]) -> NDArray[np.float64]:
        return self.share[[self.repeats.index(repeat) for repeat in repeats]]


def spread(values: NDArray[np.float64], sign: str = "") -> str:
    """Mean and standard error of the mean, without NaN."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    error = f" ± {standard_error(values[:, None])[0]:.1f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.1f}{error}"


def until(share: NDArray[np.float64], level: float) -> int | None:
    """Number of networks until the mean, over the studies that are long enough, reaches the level."""
    if not len(share):
        return None
    above = np.flatnonzero(share[:, ~np.isnan(share).any(axis=0)].mean(axis=0) >= level)
    return int(above[0]) + 1 if above.size else None


def counted(found: int | None) -> str:
    return str(found) if found is not None else f"> {BUDGET}"


def best(studies: Studies, table: str, costs: str) -> tuple[str, Curves]:
    """The best Optuna sampler after LEVEL_AT networks, among those with the most studies, counted up to ENOUGH."""
    found = [(name, Curves(studies, table, costs, name)) for name in OPTUNA]
    most = min(max(len(own.repeats) for _, own in found), ENOUGH)
    enough = [one for one in found if len(one[1].repeats) >= most]
    return max(enough, key=lambda one: float(one[1].share[:, LEVEL_AT - 1].mean()))


def main_table(studies: Studies) -> Iterable[str]:
    yield from head(
        "table, costs|sampler",
        "n",
        *(f"at {mark}, %" for mark in MARKS),
        f"until the best's at {LEVEL_AT}",
        "ms an ask",
    )
    for table, costs in problems(studies):
        name_of_best, theirs = best(studies, table, costs)
        level = float(theirs.share[:, LEVEL_AT - 1].mean())
        for name in (OURS, *BASELINES):
            own = Curves(studies, table, costs, name)
            if own.repeats:
                marks = [spread(own.share[:, mark - 1]) for mark in MARKS]
                shown = f"{name} (best)" if name == name_of_best else name
                took = counted(until(own.share, level))
                yield row(f"{table}, {costs}", shown, len(own.repeats), *marks, took, f"{1000 * own.seconds:.1f}")


def counts(studies: Studies) -> Iterable[str]:
    """Uncertainty of the number of networks, from bootstrap samples of the studies, paired by repeat."""
    yield from head("table, costs", "networks", "90% of the draws", f"at most {AIM}, % of the draws")
    rng = np.random.default_rng(0)
    for table, costs in problems(studies):
        ours, theirs = Curves(studies, table, costs, OURS), best(studies, table, costs)[1]
        both = [repeat for repeat in ours.repeats if repeat in theirs.repeats]
        mine, other = ours.of(both), theirs.of(both)[:, LEVEL_AT - 1]
        drawn = rng.integers(len(both), size=(DRAWS, len(both)))
        found = np.array([until(mine[own], float(other[own].mean())) or BUDGET + 1 for own in drawn])
        low, high = np.quantile(found, [0.05, 0.95]).astype(int)
        once = counted(until(mine, float(other.mean())))
        yield row(f"{table}, {costs}", once, f"{low} to {high}", f"{100 * (found <= AIM).mean():.0f}")


def against(studies: Studies, name: str) -> Iterable[str]:
    """A slow sampler compared with ours in the same studies."""
    marks = (25, 50, 100, 150)
    columns = [f"{name} at {mark}" for mark in marks] + [f"{OURS}, same studies, at {mark}" for mark in marks]
    yield from head("table, costs", "n", *columns, f"{OURS} (all) until {name}'s at {LEVEL_AT}")
    for table, costs in problems(studies):
        ours, theirs = Curves(studies, table, costs, OURS), Curves(studies, table, costs, name)
        both = [repeat for repeat in theirs.repeats if repeat in ours.repeats]
        if both:
            cells = [spread(own.of(both)[:, mark - 1]) for own in (theirs, ours) for mark in marks]
            level = float(np.nanmean(theirs.of(both)[:, LEVEL_AT - 1]))
            yield row(f"{table}, {costs}", len(both), *cells, counted(until(ours.share, level)))


def parallel_table(studies: Studies, at_once: int) -> Iterable[str]:
    marks, ways = (50, 100, 150), ("one at a time", f"{at_once} at once")
    columns = [*(f"{way}, {mark}" for way in ways for mark in marks), *(f"{way}, until" for way in ways)]
    yield from head("table, costs", "n", *columns, f"of TPE, {at_once} at once, 150")
    for table, costs in problems(studies):
        one, many = Curves(studies, table, costs, OURS), Curves(studies, table, costs, OURS, at_once)
        both = [repeat for repeat in many.repeats if repeat in one.repeats]
        if both:
            level = float(best(studies, table, costs)[1].share[:, LEVEL_AT - 1].mean())
            cells = [spread(own.of(both)[:, mark - 1]) for own in (one, many) for mark in marks]
            cells += [counted(until(own.of(both), level)) for own in (one, many)]
            tpe = Curves(studies, table, costs, "tpe", at_once)
            yield row(f"{table}, {costs}", len(both), *cells, spread(tpe.share[:, -1]))


def ablations(studies: Studies) -> Iterable[str]:
    marks = (25, 50, 100, 150)
    yield from head("table, costs|without", "n", *(f"at {mark}, %" for mark in marks), "until the best's at 100")
    for table, costs in problems(studies):
        level = float(best(studies, table, costs)[1].share[:, LEVEL_AT - 1].mean())
        for without, name in {"nothing": OURS, **WITHOUT}.items():
            own = Curves(studies, table, costs, name)
            if own.repeats:
                cells = [spread(own.share[:, mark - 1]) for mark in marks]
                yield row(f"{table}, {costs}", without, len(own.repeats), *cells, counted(until(own.share, level)))
    yield ""
    yield from head("without", "studies", *(f"at {mark}" for mark in marks))
    for without, name in WITHOUT.items():
        gaps = np.vstack([paired(studies, table, costs, name) for table, costs in problems(studies)])
        if len(gaps):
            yield row(without, len(gaps), *(spread(gaps[:, mark - 1], "+") for mark in marks))


def paired(studies: Studies, table: str, costs: str, name: str) -> NDArray[np.float64]:
    """Differences of a variant to ours in the studies that both have, (n, networks)."""
    ours, theirs = Curves(studies, table, costs, OURS), Curves(studies, table, costs, name)
    both = [repeat for repeat in theirs.repeats if repeat in ours.repeats]
    return theirs.of(both) - ours.of(both)


def problems(studies: Mapping[Key, Study]) -> list[tuple[str, str]]:
    """The samplers with studies, in the order of README.md."""
    return [problem for problem in COSTS if any(key[:2] == problem for key in studies)]


def head(words: str, *numbers: str) -> list[str]:
    names = [*words.split("|"), *numbers]
    rule = ["---"] * len(words.split("|")) + ["---:"] * len(numbers)
    return [row(*names), "|" + "|".join(rule) + "|"]


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="samplers, between commas")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--nas-bench-201", metavar="FILE", help="without it, only NAS-Bench-Macro is used")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--kept", type=Path, default=KEPT)
    args = parser.parse_args()
    if args.run:
        try:
            run(args.kept, args.run.split(","), args.repeats, args.parallel, args.nas_bench_201, args.jobs)
        except UsageError as error:
            raise SystemExit(str(error)) from None
        return
    studies = load(args.kept)
    parts = [main_table(studies), counts(studies), against(studies, "gp"), against(studies, "qlognehvi")]
    parts += [parallel_table(studies, at_once) for at_once in sorted({key.parallel for key in studies} - {1})]
    for part in [*parts, ablations(studies)]:
        print("\n".join(part), end="\n\n")


if __name__ == "__main__":
    main()
