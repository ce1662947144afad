"""What a benchmark hands on: trials as CSV, rows that can't be trained, and BoTorch's sampler where it is installed."""

from __future__ import annotations

import csv
import io

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from nas.bench import samplers
from nas.bench.folder import Folder
from nas.bench.replay import Luck, Protocol, Space, replay
from nas.bench.score import Scale
from nas.bench.summary import curves, summary
from nas.bench.table import Columns, Table, read
from nas.bench.trials import trials
from nas.errors import UsageError


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """A grid of 6 x 4, the last of each depth broken and without values."""
    lines = ["depth,kind,acc0,acc1,params,broken"]
    for depth in range(1, 7):
        for place, kind in enumerate("abcd"):
            ended = f"{60 + 4 * depth + place},{61 + 4 * depth - place},{100 * depth + 10 * place},no"
            lines.append(f"{depth},{kind},{ended if kind != 'd' else ',,,yes'}")
    file = tmp_path_factory.mktemp("table") / "grid.csv"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


@pytest.fixture(scope="module")
def table(path) -> Table:
    return read(path, Columns(infeasible="broken"))


def test_rows_that_can_not_be_trained_are_as_if_the_table_lacked_them(path, table):
    assert table.networks == 18 and "broken" not in table.ignored
    assert [own.name for own in table.choices] == ["depth", "kind"]
    with pytest.raises(UsageError, match="row 4: acc0 is ''"):
        read(path, Columns(choices=("depth", "kind")))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(infeasible="brocken"), "did you mean 'broken'"),
        (Columns(infeasible="kind"), "row 1: kind is 'a', not true or false"),
        (Columns(infeasible="broken", choices=("broken",)), "two roles"),
    ],
)
def test_wrong_marks_are_refused(path, columns, message):
    with pytest.raises(UsageError, match=message) as refused:
        read(path, columns)
    assert "\n" not in str(refused.value)


def test_all_rows_marked_is_refused(tmp_path):
    file = tmp_path / "all.csv"
    file.write_text("kind,acc,params,broken\na,,,1\nb,,,1\n")
    with pytest.raises(UsageError, match="marks all rows"):
        read(str(file), Columns(infeasible="broken"))


def test_trials_hold_what_curves_are_made_of(table):
    with Folder(None, table, Protocol(budget=8), ["random", "local"], 2) as folder:
        list(folder.run(0))
        rows = list(csv.DictReader(io.StringIO(trials(folder))))
        about = summary(folder, ())["samplers"]
    assert len(rows) == 2 * 2 * 8
    own = [row for row in rows if (row["sampler"], row["repeat"]) == ("random", "1")]
    assert [int(row["evaluation"]) for row in own] == list(range(1, 9))
    found = next(one for one in curves(folder) if one.sampler == "random")
    assert [float(row["hypervolume"]) for row in own] == found.hypervolume[1].tolist()
    luck, space = Luck(table, 0, 1), Space(table)
    for row in own:
        network = space.network({"depth": int(row["choice:depth"]), "kind": row["choice:kind"]})
        assert network == int(row["network"])
        assert float(row["observed"]) == luck.accuracy[network]
        assert float(row["score"]) == table.score[network]
        assert float(row["cost:params"]) == table.costs[network, 0]
    assert about[0]["seconds_of_ask"]["at_end"] > 0 and about[0]["seconds_of_ask"]["median"] > 0


def test_settings_name_what_is_infeasible_only_where_something_is(path, table):
    assert Folder(None, table, Protocol(budget=8), ["random"], 1).settings()["table"]["infeasible"] == "broken"
    whole = read("nas-bench-macro")
    assert "infeasible" not in Folder(None, whole, Protocol(), ["random"], 1).settings()["table"]


# -- BoTorch -------------------------------------------------------------------------------------------------------------


def test_botorch_is_asked_for_in_one_line(table, monkeypatch):
    monkeypatch.setattr(samplers, "find_spec", lambda library: None)
    with pytest.raises(UsageError, match=r"needs BoTorch; install nas\[bench\]"):
        samplers.build("qlognehvi", Space(table).problem(), 0)


@pytest.mark.slow
def test_qlognehvi_proposes_only_what_is_new_and_feasible_and_is_deterministic(table):
    pytest.importorskip("botorch")
    name = "qlognehvi:startup=4:pool=32:samples=8"
    own, again = (replay(table, Scale(table, 0.1), Protocol(budget=7, parallel=2), name, 0) for _ in range(2))
    assert own.networks == again.networks and own.infeasible == 0


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_qlognehvi_lives_through_failures_and_looks_where_quality_and_cost_are_good(direction):
    pytest.importorskip("botorch")
    from nas.bench.qlognehvi import QLogNEHVI

    space = {"kind": CategoricalDistribution(("a", "b", "c")), "depth": IntDistribution(1, 12)}
    sign = 1.0 if direction == "maximize" else -1.0
    sampler = QLogNEHVI(space, lambda params: [float(params["depth"])], seed=0, startup=6, samples=16)
    study = optuna.create_study(directions=[direction, "minimize"], sampler=sampler)
    study.enqueue_trial({"kind": "c", "depth": 12})
    for turn in range(14):
        trial = study.ask(dict(space))
        if turn == 0:
            assert trial.params == {"kind": "c", "depth": 12}
        if turn in (2, 7):
            study.tell(trial, state=(TrialState.FAIL if turn == 2 else TrialState.PRUNED))
        else:
            quality = 10.0 * (trial.params["kind"] == "b") + 0.1 * trial.params["depth"]
            study.tell(trial, [sign * quality, np.log10(trial.params["depth"])])
    late = [trial.params for trial in study.trials[8:]]
    assert sum(params["kind"] == "b" for params in late) >= len(late) - 2


@pytest.mark.slow
def test_qlognehvi_is_fitted_whenever_there_are_a_tenth_more_trials(table, monkeypatch):
    pytest.importorskip("botorch")
    from nas.bench import qlognehvi

    fitted: list[int] = []
    noises: list[float] = []

    def fit(marginal):
        noises.append(float(marginal.likelihood.noise))
        fitted.append(len(marginal.model.train_targets))
        marginal.likelihood.noise = 0.01 * len(fitted)

    monkeypatch.setattr(qlognehvi, "fit_gpytorch_mll", fit)
    space = {"depth": IntDistribution(1, 200)}
    sampler = qlognehvi.QLogNEHVI(space, lambda params: [float(params["depth"])], seed=0, startup=19, pool=8, samples=2)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: (trial.suggest_int("depth", 1, 200) ** 0.5, trial.params["depth"]), n_trials=26)
    assert fitted == [19, 20, 22, 24]
    assert noises[1:] == pytest.approx([0.01, 0.02, 0.03])  # each from where the last one ended
