"""Replays: what counts, what is paired, what is remembered; and the baselines as samplers of any study."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
import threadpoolctl
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nas.bench.baselines import LocalSearch, RegularisedEvolution, neighbours
from nas.bench.folder import REPEATS, Folder
from nas.bench.page import page
from nas.bench.replay import Luck, Protocol, replay
from nas.bench.samplers import CONTESTANTS, DEFAULT, KNOWS_COSTS, OPTUNA, parse
from nas.bench.score import Scale
from nas.bench.summary import best_optuna, curves, difference, levels, marks, summary, until
from nas.bench.table import Table, read
from nas.errors import UsageError, WriteError

QUICK = ("random", "tpe", "nsga2-20", "nsga3", "evolution", "local", "known-cost")
TIMES = ("ask_seconds", "sampler_seconds", "seconds")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Table:
    """Words of five characters, a fifth of them missing, the last one a no-op; three seeds."""
    rng = np.random.default_rng(0)
    lines, noise = ["arch,acc0,acc1,acc2,params,macs"], {}
    for word in itertools.product("012", "012", "012", "012", "ab"):
        places = [int(c) for c in word[:4]]
        if sum(places) % 5 == 4:
            continue
        drawn = noise.setdefault(word[:4], rng.normal(0, 0.5, 3))
        accuracies = 80 + 3 * places[0] - places[1] ** 2 + 2 * places[2] - places[3] + drawn
        params, macs = 100 + 40 * sum(places), 1000 * 2 ** places[0] + 300 * places[2] + 100 * places[3]
        lines.append(f"{''.join(word)},{','.join(f'{a:.3f}' for a in accuracies)},{params},{macs}")
    path = tmp_path_factory.mktemp("table") / "tiny.csv"
    path.write_text("\n".join(lines) + "\n")
    return read(str(path))


@pytest.fixture(scope="module")
def scale(table) -> Scale:
    return Scale(table, 0.1)


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread():
    with threadpoolctl.threadpool_limits(1):
        yield


def without_times(own) -> dict:
    return {name: value for name, value in own.to_dict().items() if name not in TIMES}


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("sampler", QUICK)
def test_a_replay_trains_distinct_networks_and_is_deterministic(table, scale, sampler, parallel):
    protocol = Protocol(budget=13, parallel=parallel)  # known-cost begins with 10 at random
    own = replay(table, scale, protocol, sampler, 3)
    assert len(own.networks) == len(set(own.networks)) == len(own.hypervolume) == len(own.ask_seconds) == 13
    assert all(0 <= share <= 1 for share in own.hypervolume)
    assert own.asks == 13 + own.duplicates + own.infeasible
    assert own.filled <= 13
    assert without_times(own) == without_times(replay(table, scale, protocol, sampler, 3))
    assert own.networks != replay(table, scale, protocol, sampler, 4).networks
    if sampler == "known-cost":
        assert own.duplicates == own.infeasible == own.filled == 0


@pytest.mark.parametrize("sampler", ["random", "nsga2-20", "local", pytest.param("known-cost", marks=pytest.mark.slow)])
def test_a_budget_of_the_whole_table_finds_its_front(table, scale, sampler):
    """Scored is the front that was observed, in one seed, so that noise may hide a little of it."""
    own = replay(table, scale, Protocol(budget=table.networks, asks=3), sampler, 0)
    assert sorted(own.networks) == list(range(table.networks))
    luck = Luck(table, 0, 0)
    assert own.hypervolume[-1] == pytest.approx(
        scale.share(scale.front(range(table.networks), luck.accuracy)), abs=1e-8
    )
    assert own.hypervolume[-1] > 0.9
    if sampler != "known-cost":
        assert own.duplicates > 0 and own.infeasible > 0 and own.filled > 0


def test_repeats_are_paired(table):
    """What training a network gives depends on the network and the repeat alone, and every seed is drawn."""
    one, same, other = (Luck(table, 0, repeat) for repeat in (0, 0, 1))
    assert np.array_equal(one.accuracy, same.accuracy) and np.array_equal(one.duration, same.duration)
    assert not np.array_equal(one.accuracy, other.accuracy)
    assert all(accuracy in row for accuracy, row in zip(one.accuracy, table.accuracy, strict=True))
    columns = {int(np.flatnonzero(row == a)[0]) for a, row in zip(one.accuracy, table.accuracy, strict=True)}
    assert columns == {0, 1, 2}


def test_workers_end_in_the_order_of_durations(table, scale):
    """With a worker for every network they all are proposed first, and told from the shortest to the longest."""
    budget = table.networks
    own = replay(table, scale, Protocol(budget=budget, parallel=budget), "random", 0)
    assert own.networks == np.argsort(Luck(table, 0, 0).duration).tolist()
    serial = replay(table, scale, Protocol(budget=budget), "random", 0)
    assert serial.networks != own.networks


def test_curves_follow_from_the_networks(table, scale):
    own = replay(table, scale, Protocol(budget=12), "random", 0)
    accuracy = Luck(table, 0, 0).accuracy
    for count in (1, 5, 12):
        found = scale.front(own.networks[:count], accuracy[own.networks[:count]])
        assert own.hypervolume[count - 1] == pytest.approx(scale.share(found), abs=1e-8)


# -- samplers by name ----------------------------------------------------------------------------------------------------


def test_names_are_registered():
    assert {*OPTUNA, *KNOWS_COSTS, *DEFAULT} <= set(CONTESTANTS)
    assert set(CONTESTANTS) - set(DEFAULT) == {"gp", "qlognehvi"}


def test_options_reach_the_sampler(table, scale):
    assert parse("evolution:population=4:tournament=2") == ("evolution", {"population": 4, "tournament": 2})
    usual, other = (
        replay(table, scale, Protocol(budget=15), name, 0)
        for name in ("evolution", "evolution:population=4:tournament=2")
    )
    assert usual.networks[:2] == other.networks[:2] and usual.networks != other.networks
    lean = replay(table, scale, Protocol(budget=8), "known-cost:exploration=0:features=false", 0)
    assert len(lean.networks) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tp", "did you mean 'tpe'"),
        ("tpe:x", "is not an option"),
        ("tpe:seed=", "seed"),
        ("evolution:colour=3", "colour"),
        ("evolution:tournament=99", "tournament must be"),
        ("local:startup=0:startup=1", "each option once"),
    ],
)
def test_wrong_samplers_are_refused(table, scale, text, message):
    with pytest.raises(UsageError, match=message):
        replay(table, scale, Protocol(budget=2), text, 0)


# -- the folder ----------------------------------------------------------------------------------------------------------

SMALL = Protocol(budget=6)


def test_a_benchmark_goes_on_where_it_ended(table, tmp_path):
    with Folder(tmp_path, table, SMALL, ["random", "local"], 3) as folder:
        for _ in zip(range(4), folder.run(0), strict=False):
            pass
    with (tmp_path / REPEATS).open("a") as file:
        file.write('{"sampler":"loc')  # killed in the middle of a line
    with Folder(tmp_path, table, SMALL, ["random", "local", "evolution"], 3) as folder:
        had = [(own.sampler, own.repeat) for own in folder.done]
        assert had[:4] == [("random", 0), ("local", 0), ("random", 1), ("local", 1)]
        new = [(own.sampler, own.repeat) for own in folder.run(0)]
        assert set(had) | set(new) == set(itertools.product(("random", "local", "evolution"), range(3)))
        assert not set(had) & set(new) and folder.missing() == []
    lines = [json.loads(line) for line in (tmp_path / REPEATS).read_text().splitlines()]
    assert len(lines) == 9
    with Folder(None, table, SMALL, ["random", "local", "evolution"], 3) as whole:
        list(whole.run(0))
    key = lambda own: (own.sampler, own.repeat)  # noqa: E731
    assert [without_times(own) for own in sorted(folder.done, key=key)] == [
        without_times(own) for own in sorted(whole.done, key=key)
    ]


def test_a_folder_of_another_benchmark_is_refused(table, tmp_path):
    with Folder(tmp_path, table, SMALL, ["random"], 1) as folder:
        list(folder.run(0))
        with pytest.raises(UsageError, match="another nas bench"), Folder(tmp_path, table, SMALL, ["random"], 1):
            pass
    with (
        pytest.raises(UsageError, match="holds another benchmark: budget is 6, not 7"),
        Folder(tmp_path, table, Protocol(budget=7), ["random"], 1),
    ):
        pass
    (tmp_path / REPEATS).write_text("[]\n")
    with pytest.raises(UsageError, match="line 1 is not a repeat"), Folder(tmp_path, table, SMALL, ["random"], 1):
        pass


def test_what_can_not_be_run_is_refused(table):
    with pytest.raises(UsageError, match="named twice"):
        Folder(None, table, SMALL, ["random", "random"], 1)
    with pytest.raises(UsageError, match=f"has only {table.networks} distinct networks"):
        Folder(None, table, Protocol(budget=10_000), ["random"], 1)


def test_processes_give_what_one_process_gives(table, tmp_path):
    with Folder(tmp_path, table, SMALL, ["random", "local"], 2) as folder:
        by_processes = {(own.sampler, own.repeat): without_times(own) for own in folder.run(2)}
    for (name, repeat), own in by_processes.items():
        assert own == without_times(replay(table, folder.scale, SMALL, name, repeat))
    assert len(by_processes) == 4


def test_processes_end_with_a_driver_that_is_killed():
    words = (
        "bench",
        "--table",
        "nas-bench-macro",
        "--samplers",
        "random",
        "--budget",
        "20",
        "--repeats",
        "5000",
        "--jobs",
        "2",
    )
    command = [sys.executable, "-m", "nas", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        next(line for line in driver.stderr if line.startswith("1/5000 "))
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        driver.kill()
    assert len(children) >= 2
    until = time.monotonic() + 60
    while (left := [child for child in children if lives(child)]) and time.monotonic() < until:
        time.sleep(0.1)
    for child in left:
        os.kill(int(child), signal.SIGKILL)
    assert left == []


def lives(process: str) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def test_a_full_disk_says_which_file(table, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nas.bench.folder.os.fsync", full)
    with Folder(None, table, SMALL, ["random"], 1) as folder:
        folder.path = tmp_path
        with pytest.raises(WriteError, match=rf"{REPEATS}: can't be written: No space left on device \("):
            list(folder.run(0))


def test_the_summary_is_the_mean_of_the_repeats(table):
    with Folder(None, table, Protocol(budget=30), ["local", "random", "evolution"], 4) as folder:
        list(folder.run(0))
    found = curves(folder)
    rows = np.array([own.hypervolume for own in folder.done if own.sampler == "random"])
    about = summary(folder, [0.5, 1.0])
    at = about["samplers"][1]["hypervolume"]
    assert list(at) == ["25", "30"] == [str(mark) for mark in marks(30)]
    assert at["25"]["mean"] == pytest.approx(rows[:, 24].mean())
    assert at["25"]["standard_error"] == pytest.approx(rows[:, 24].std(ddof=1) / 2)
    gap, error = difference(found[0], found[1], 30)
    mine = np.array([own.hypervolume for own in folder.done if own.sampler == "local"])
    assert gap == pytest.approx((mine - rows)[:, 29].mean())
    assert error == pytest.approx((mine - rows)[:, 29].std(ddof=1) / 2)
    assert best_optuna(found, 30) == (found[1], 30)
    half, whole, best = levels(found, 30, [1.0, 0.5])
    assert (half.share, whole.share) == (0.5, 1.0) and best.share == pytest.approx(found[1].mean[-1])
    reached = until(found[1], half)
    assert reached.of_mean == int(np.argmax(rows.mean(axis=0) >= 0.5)) + 1
    assert reached.median == np.median([np.argmax(row >= 0.5) + 1 for row in rows])
    assert until(found[1], whole).reached <= 4
    assert about["samplers"][0]["first_less_this"] is None
    json.dumps(about, allow_nan=False)
    drawn = page(folder, [0.5])
    assert all(name in drawn for name in ('id="hypervolume"', 'id="evaluations"', 'id="seconds"', "evolution"))


# -- the baselines in any study ------------------------------------------------------------------------------------------

SPACE = {
    "kind": CategoricalDistribution(("a", "b", "c")),
    "depth": IntDistribution(2, 8, step=2),
    "alone": CategoricalDistribution((1,)),
}
BASELINES = pytest.mark.parametrize(
    "make",
    [
        lambda **own: RegularisedEvolution(population=6, tournament=2, **own),
        lambda **own: LocalSearch(startup=4, **own),
    ],
)


def quality(params: dict) -> tuple[float, float]:
    return params["depth"] + 3.0 * (params["kind"] == "b"), float(params["depth"] ** 2)


@BASELINES
@pytest.mark.parametrize("declared", [SPACE, None])
def test_a_baseline_lives_through_failures_pruning_and_enqueued_trials(make, declared):
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(distributions=declared, seed=1))
    study.enqueue_trial({"kind": "c", "depth": 8})
    for turn in range(40):
        if turn == 20:
            study.enqueue_trial({"kind": "a", "depth": 6, "alone": 1})
        trial = study.ask(dict(SPACE))
        assert trial.params["depth"] in (2, 4, 6, 8)
        if turn == 0:
            assert (trial.params["kind"], trial.params["depth"]) == ("c", 8)
        if turn == 20:
            assert (trial.params["kind"], trial.params["depth"]) == ("a", 6)
        if turn % 5 == 1:
            study.tell(trial, state=TrialState.FAIL)
        elif turn % 5 == 2:
            study.tell(trial, state=TrialState.PRUNED)
        elif turn % 5 != 3:  # else left running
            study.tell(trial, quality(trial.params))
    assert {trial.state for trial in study.trials} == {
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.RUNNING,
    }


@BASELINES
def test_a_baseline_draws_what_it_does_not_search(make):
    study = optuna.create_study(sampler=make(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 3), n_trials=15)
    assert len({trial.params["x"] for trial in study.trials}) == 15
    wide = make(distributions={"x": FloatDistribution(0, 1)}, seed=0)
    assert wide.infer_relative_search_space(study, study.trials[0]) == {}


def test_evolution_mutates_the_young():
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=RegularisedEvolution(SPACE, seed=0, population=5, tournament=3)
    )
    for turn in range(60):
        before = [trial.params for trial in study.trials[-5:]]
        trial = study.ask(dict(SPACE))
        if turn >= 5:
            distances = [sum(trial.params[name] != parent[name] for name in SPACE) for parent in before]
            assert 1 in distances
        study.tell(trial, quality(trial.params))


def test_local_search_tries_every_neighbour_of_the_front_and_nothing_twice():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=LocalSearch(SPACE, seed=0, startup=1))
    seen = set()
    for turn in range(12):  # the space has 3 x 4 members, all of which a walk over neighbours reaches here
        trial = study.ask(dict(SPACE))
        params = tuple(trial.params.items())
        members = [own.params for own in study.best_trials]
        if turn and any(tuple(near.items()) not in seen for member in members for near in _near(member)):
            assert params not in seen
            assert any(dict(params) == near for member in members for near in _near(member))
        seen.add(params)
        study.tell(trial, quality(trial.params))
    assert len(seen) > 6


def _near(member: dict) -> list[dict]:
    from nas.bench.baselines import values

    return list(neighbours(member, {name: values(own) or () for name, own in SPACE.items()}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegularisedEvolution(population=3, tournament=4), "tournament must be from 1"),
        (lambda: LocalSearch(startup=0), "startup must be at least 1"),
    ],
)
def test_wrong_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
