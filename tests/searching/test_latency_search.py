"""Latency as an objective: predicted from parts, measured before training, kept with the trial, in every place that lists costs.

The measuring process is replaced by one that makes its figures up, so that they are known exactly.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import warnings

import pytest
from helpers_cli import nas_, output
from helpers_latency import ms_of, truth
from helpers_search import TINY, begin, finish, settings_of, space_of, write_space
from make_run import changed

from nas.errors import NasError, UsageError
from nas.interop.export.trials import provenance
from nas.networks import zoo
from nas.pareto.dominance import dominates
from nas.profiling.latency import Conditions, Latency, meter
from nas.profiling.latency.child import serve
from nas.profiling.latency.meter import FILE, Cache, Meter
from nas.profiling.latency.parts import parts_of
from nas.runs.doctor import examine
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.search import resume, search
from nas.utils.text import format_ms

CONDITIONS = {"device": "cpu", "batch": 1, "threads": 1, "max_ms": None}


def made_up(ms: float, **changes) -> Latency:
    return dataclasses.replace(Latency(ms, ms / 20, 9, 0, 0.01, "a processor", 1, 1, 8, "2.0"), **changes)


class MadeUp:
    """In place of `nas.profiling.latency.child.Child`; `asked` counts the networks and parts that were run."""

    asked: list[str]
    product = "a processor"

    def __init__(self, conditions):
        self.conditions = conditions

    def device(self):
        return self.product, "2.0"

    def networks(self, architectures, reference, quiet_ms=None):
        self.asked.extend(own.digest for own in architectures)
        return [made_up(truth(own), device=self.product) for own in architectures]

    def parts(self, architectures, names, reference, quiet_ms):
        self.asked.extend(names)
        every = {part.name: part for own in architectures for part in parts_of(own)}
        return {name: made_up(ms_of(every[name]), device=self.product) for name in names}

    def close(self): ...


@pytest.fixture
def child(monkeypatch):
    made = type("Child", (MadeUp,), {"asked": []})
    monkeypatch.setattr(meter, "Child", made)
    return made


def timed_settings(*objectives, **options) -> Settings:
    conditions = {**CONDITIONS, **options.pop("latency", {})}
    plain = settings_of(objectives=("accuracy", "params"), **options)
    reference = [*plain.reference[:1], *(1.0 if own == "latency_ms" else 1e5 for own in objectives[1:])]
    return changed(plain, objectives=objectives, reference=reference, latency=conditions)


# -- the process and the cache -----------------------------------------------------------------------------------------


def test_the_process_answers_line_by_line():
    network = zoo.get("resnet20").adapted(classes=10, resolution=8, channels=1)
    said = {"architectures": [network.to_dict()], "reference": network.to_dict(), "quiet_ms": None}
    names = [part.name for part in parts_of(network)][:2]
    lines = [
        {"device": "cpu", "batch": 2, "threads": 1},
        {"what": "device"},
        {"what": "networks", **said},
        {"what": "parts", **said, "quiet_ms": 1.0, "names": names},
        {"what": "networks", **said, "architectures": [{"stem": 3}]},
    ]
    answers = io.StringIO()
    serve(io.StringIO("".join(json.dumps(line) + "\n" for line in lines)), answers)
    device, networks, parts, wrong = [json.loads(line) for line in answers.getvalue().splitlines()]
    (latency,) = [Latency.from_dict(own) for own in networks["latencies"]]
    assert (latency.device, latency.torch) == (device["device"], device["torch"])
    assert (latency.batch, latency.threads, latency.resolution, latency.load) == (2, 1, 8, 1.0)
    assert list(parts["parts"]) == names
    assert wrong["usage"] is True and wrong["error"]


def test_the_cache_keeps_what_fits_its_conditions(tmp_path):
    path, one = tmp_path / FILE, Conditions(threads=1)
    cache = Cache(path, one, "a processor", "2.0")
    cache.put("x", made_up(3.0))
    cache.put("x", made_up(4.0))
    with path.open("a") as file:
        file.write('{"what": "torn", "median_')  # a driver that was killed
    again = Cache(path, one, "a processor", "2.0")
    assert again.get("x") == made_up(4.0) and again.get("torn") is None
    again.put("y", made_up(5.0))
    assert Cache(path, one, "a processor", "2.0").get("y") == made_up(5.0)
    for other in (Conditions(threads=2), Conditions(batch=2, threads=1)):
        assert Cache(path, other, "a processor", "2.0").get("x") is None
    assert Cache(path, one, "another", "2.0").get("x") is None
    assert Cache(path, one, "a processor", "2.1").get("x") is None


def test_a_meter_measures_nothing_twice(tmp_path, child):
    space = space_of(TINY)
    network = space.architecture(space.sample(3))
    first = Meter(tmp_path, Conditions(threads=1), space, seed=0)
    assert first.predicted(network) == pytest.approx(truth(network), rel=1e-3)
    assert first.measured(network).median_ms == truth(network)
    count = len(child.asked)
    assert (
        len(set(child.asked)) > 10 and count - len(set(child.asked)) <= 1
    )  # the reference may be among the whole ones
    again = Meter(tmp_path, Conditions(threads=1), space, seed=0)
    assert again.measured(network) == first.measured(network)
    assert again.lookup == first.lookup
    assert len(child.asked) == count


# -- a study -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["known-cost", "random", "tpe", "nsga2"])
def test_the_study_ranks_by_measured_latency(tmp_path, child, sampler):
    settings = timed_settings("accuracy", "latency_ms", "params", sampler=sampler, trials=8)
    with begin(tmp_path, settings) as study:
        jobs = finish(study)
    assert [job.latency_ms for job in jobs] == [truth(job.architecture) for job in jobs]
    run = load_run(tmp_path)
    assert run.reference[1] > max(trial.price("latency_ms") for trial in run.complete()) or sampler != "known-cost"
    for trial in run.complete():
        assert trial.values == (trial.accuracy, truth(trial.architecture), trial.cost.params)
    front = run.front()
    others = [trial for trial in run.complete() if trial not in front]
    assert all(any(dominates(own.values, trial.values, run.directions) for own in front) for trial in others)
    frame = run.dataframe()
    complete = frame[frame["state"] == "complete"]
    assert list(complete["latency_ms"]) == [truth(trial.architecture) for trial in run.complete()]


def test_nothing_slower_than_the_bound_is_trained(tmp_path, child):
    space = space_of(TINY)
    every = sorted(truth(space.architecture(space.sample(seed))) for seed in range(60))
    bound = every[len(every) // 3]
    settings = timed_settings("accuracy", "params", sampler="random", trials=5, latency={"max_ms": bound})
    with begin(tmp_path, settings) as study:
        jobs = finish(study)
    assert jobs and all(truth(job.architecture) <= bound for job in jobs)
    rejected = [trial for trial in load_run(tmp_path).trials if trial.state == "rejected"]
    assert rejected and all("above the budget of" in trial.reason for trial in rejected)
    assert all(truth(trial.architecture) > bound for trial in rejected)


def test_one_that_can_not_be_measured_is_not_trained(tmp_path, child, monkeypatch):
    with begin(tmp_path, timed_settings("accuracy", "latency_ms", trials=2, sampler="random")) as study:
        study.prepare(lambda text: None)
        known, bad = child.networks, []

        def networks(self, architectures, reference, quiet_ms=None):
            if not bad:
                bad.extend(architectures)
                raise NasError("out of memory")
            return known(self, architectures, reference, quiet_ms)

        monkeypatch.setattr(child, "networks", networks)
        monkeypatch.setattr(Cache, "get", lambda self, what: None)
        assert len(finish(study)) == 2
    (trial,) = [trial for trial in load_run(tmp_path).trials if trial.state == "rejected"]
    assert trial.reason == "its latency could not be measured: out of memory"


def test_another_device_is_refused(tmp_path, child):
    with begin(tmp_path, timed_settings("accuracy", "latency_ms", trials=2)) as study:
        study.prepare(lambda text: None)
    kept = Settings.load(tmp_path)
    assert kept.latency.measured.measured_on == "a processor" and kept.latency.measured.parts > 0
    child.product = "another processor"
    before = list(child.asked)
    with begin(tmp_path, kept) as study, pytest.raises(UsageError, match="were measured on a processor"):
        study.prepare(lambda text: None)
    assert child.asked == before  # nothing is measured for minutes that can't be used


def test_what_was_measured_before_the_first_trial_is_mended_with_the_settings(tmp_path, child):
    """The corner of the hypervolume is among it."""
    with begin(tmp_path, timed_settings("accuracy", "latency_ms", trials=2)) as study:
        study.prepare(lambda text: None)
        finish(study)
    kept = Settings.load(tmp_path)
    assert kept.reference[1] != 1.0
    (tmp_path / "run.yaml").write_bytes(b"")
    examine(tmp_path, repair=True)
    assert Settings.load(tmp_path) == kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latency": {}}, "latency: is missing"),
        ({"latency": {**CONDITIONS, "batch": 0}}, "latency: batch must be"),
        ({"latency": {**CONDITIONS, "device": "tpu"}}, "known are cpu, cuda"),
        ({"latency": {"device": "cpu"}}, "latency: batch, max_ms, threads are missing"),
    ],
)
def test_settings_say_what_is_wrong_with_latency(change, words):
    data = timed_settings("accuracy", "latency_ms").to_dict()
    with pytest.raises(UsageError, match=words):
        Settings.from_dict({**data, **change}, "run.yaml")


def test_a_run_is_not_gone_on_with_under_other_conditions(tmp_path, child):
    settings = timed_settings("accuracy", "latency_ms", trials=2)
    with begin(tmp_path, settings):
        pass
    other = changed(settings, latency={"batch": 8})
    with pytest.raises(UsageError, match="other latency"), begin(tmp_path, other):
        pass


# -- a search ----------------------------------------------------------------------------------------------------------


def test_a_search_says_latency_wherever_it_says_costs(tmp_path, child):
    out = tmp_path / "run"
    options = {"space": str(write_space(tmp_path)), "executor": "local", "device": "cpu", "out": out}
    run = search(**options, trials=3, epochs=1, objectives="accuracy,latency_ms,macs", baselines=("resnet20",))
    assert [objective.name for objective in run.objectives] == ["accuracy", "latency_ms", "macs"]
    trained = run.complete()
    assert len(trained) == 4
    for trial in trained:
        assert trial.latency == made_up(truth(trial.architecture))
        place = out / "baselines" / trial.label if trial.label else out / "trials" / str(trial.number)
        assert json.loads((place / "result.json").read_text())["latency"] == trial.latency.to_dict()
        assert provenance(run, trial)["latency"]["median_ms"] == truth(trial.architecture)
    assert run.reference[1] > max(trial.price("latency_ms") for trial in trained)
    front = json.loads(output("front", out, "--json"))["front"]
    assert [row["latency_ms"] for row in front] == sorted(row["latency_ms"] for row in front)
    assert "Latency is the median for a batch of 1 on a processor" in output("front", out)
    assert "latency_ms" in output("front", out, "--csv").splitlines()[0]
    page = (out / "report.html").read_text()
    assert '"latency_ms"' in page and '"latency_ms":"latency"' in page
    output("report", out, "--format", "csv")
    output("report", out, "--format", "md")
    said = (out / "report.md").read_text()
    assert said.count("| Latency |") == 2
    for trial in trained:  # in the table of all, and of the front
        assert said.count(f"| {format_ms(trial.price('latency_ms'))} |") >= 1 + (trial in run.front())
    assert run.best(max_latency_ms=min(own.price("latency_ms") for own in trained)).latency is not None
    count = len(child.asked)
    resumed = resume(out, trials=4)
    assert len(resumed.complete()) == 5
    assert len(child.asked) <= count + 1  # the new one, unless the meter ran it whole before


def test_a_bound_that_nothing_meets_says_why_nothing_was_trained(tmp_path, child):
    """With --quiet, too, it is no success; and no warning of Python's stands between the words."""
    words = (
        "search",
        "--space",
        write_space(tmp_path),
        "--trials",
        2,
        "--max-latency-ms",
        0.0001,
        "--executor",
        "local",
    )
    for number, more in enumerate(((), ("--quiet",))):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            result = nas_(*words, *more, "--out", tmp_path / f"run{number}")
        assert result.exit_code == 1 and "no trial is complete, so that there is no front" in result.stderr
        assert [own for own in warned if "KnownCostSampler" in str(own.message)] == []
        if not more:
            said = r"no network was found within the budgets: \d+ were rejected, the last because a predicted latency of .* is above"
            assert re.search(said, " ".join(result.stdout.split())), result.stdout


def test_early_stopping_takes_latency_for_a_cost(tmp_path, child):
    options = {"space": str(write_space(tmp_path)), "executor": "local", "device": "cpu", "stopping": "pareto"}
    objectives = {"objectives": "accuracy,latency_ms", "sampler": "random"}
    run = search(**options, **objectives, trials=4, epochs=3, out=tmp_path / "run")
    assert run.count("complete") + run.count("stopped") == 4
    assert all(trial.latency for trial in run.trials if trial.state in ("complete", "stopped"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objectives": "accuracy,latency_ms", "latency_device": "tpu"}, "known are cpu"),
        ({"objectives": "accuracy,latency_ms", "latency_batch": 0}, "batch 0"),
        ({"max_latency_ms": -1.0}, "--max-latency-ms -1"),
    ],
)
def test_a_search_refuses_what_can_not_be_measured(tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        search(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_latencies_are_really_measured(tmp_path):
    """The real process, a real search of two small networks beside one another's training."""
    options = {"space": str(write_space(tmp_path)), "executor": "local", "device": "cpu", "out": tmp_path / "run"}
    run = search(**options, trials=2, epochs=1, objectives="accuracy,latency_ms")
    for trial in run.complete():
        assert trial.latency.median_ms > 0 and trial.latency.load > 0 and trial.latency.repeats >= 5
    assert run.config["latency"]["measured_on"] == run.complete()[0].latency.device
