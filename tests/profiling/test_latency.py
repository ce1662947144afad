"""Measuring latency: what is timed in which order, what counts, and what is said of it. No test asserts a time."""

from __future__ import annotations

import dataclasses
import json
import statistics

import pytest
import torch
from helpers_cli import output, refusal
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.networks import zoo
from nas.profiling.latency import Conditions, Latency, measure, measure_all
from nas.profiling.latency.timing import Repeat, Summary, energy_mj, interleaved
from nas.utils.text import format_ms

FEW = {"seconds": 0.0, "least": 3, "most": 3}


@pytest.fixture(scope="module")
def small():
    return zoo.get("resnet20").adapted(classes=10, resolution=8, channels=1)


def scripted(times):
    """Calls that say their own time, and a timer that believes them."""
    log = []

    def call_of(name, ms):
        def call():
            log.append(name)
            return ms

        return call

    return [call_of(name, ms) for name, ms in times.items()], lambda call: Repeat(float(call())), log


def test_rounds_are_interleaved_and_begin_with_each_in_turn():
    calls, timer, log = scripted({"a": 200, "b": 300, "c": 400})
    found = interleaved(calls, timer, seconds=0.0, least=3, most=3)
    assert [[own.ms for own in repeats] for repeats in found] == [[200] * 3, [300] * 3, [400] * 3]
    assert "".join(log[-9:]) == "abcbcacab"
    assert len(log) == 9 + 3 * 3  # each warm before anything counts


@given(st.floats(0.0, 2.0), st.integers(1, 20), st.integers(0, 30))
def test_rounds_stay_between_least_and_most(seconds, least, more):
    calls, timer, _ = scripted({"a": 50, "b": 150})
    repeats, _ = interleaved(calls, timer, seconds=seconds, least=least, most=least + more)
    assert least <= len(repeats) <= least + more
    if least < len(repeats) < least + more:  # until the time of both was spent, and not a round longer
        assert 200 * len(repeats) >= 2000 * seconds > 200 * (len(repeats) - 1)


@given(st.lists(st.floats(0.1, 100.0), min_size=5), st.lists(st.floats(100.0, 1e4), max_size=20))
def test_disturbed_repeats_do_not_count(quiet, disturbed):
    summary = Summary.of([*(Repeat(ms, True) for ms in disturbed), *(Repeat(ms) for ms in quiet)])
    assert summary.median == statistics.median(quiet)
    assert (summary.repeats, summary.disturbed) == (len(quiet), len(disturbed))
    assert 0 <= summary.spread <= max(quiet) - min(quiet)


def test_disturbed_repeats_count_where_too_few_are_left():
    summary = Summary.of([Repeat(1.0), *(Repeat(9.0, True) for _ in range(6))])
    assert (summary.median, summary.repeats, summary.disturbed) == (9.0, 7, 6)


def test_a_latency_says_its_conditions(small):
    found = measure(small, batch=3, threads=1, **FEW)
    assert found.median_ms > 0 and found.spread_ms >= 0 and found.noise >= 0
    assert 1 <= found.repeats <= 3
    assert (found.batch, found.threads, found.resolution) == (3, 1, 8)
    assert found.torch == torch.__version__
    assert found.device and found.energy_mj is None and found.load == 1
    assert Latency.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_measuring_leaves_threads_and_networks_of_others_alone(small):
    before = torch.get_num_threads()
    measure_all([small, small], threads=1, resolution=16, **FEW)
    assert torch.get_num_threads() == before
    from nas.profiling.latency import timing

    call = timing._call(small, Conditions(batch=2), 16, torch.device("cpu"))
    output = call()
    assert output.shape == (2, 10)
    assert not output.requires_grad and output.is_inference()


@given(st.floats(0.01, 1e3), st.floats(0.01, 1e3), st.floats(0.01, 1e3))
def test_figures_are_divided_by_the_load(ms, now, quiet):
    raw = Latency(ms, ms / 10, 9, 0, 0.01, "cpu", 1, 1, 8, "2")
    scaled = raw.relative_to(now, quiet)
    assert scaled.median_ms * scaled.load == pytest.approx(ms)
    assert scaled.spread_ms / scaled.median_ms == pytest.approx(0.1)
    assert scaled.load == pytest.approx(now / quiet)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"median_ms": 0}, "median_ms must be above 0"),
        ({"median_ms": float("nan")}, "median_ms must be a finite number"),
        ({"repeats": -1}, "repeats must be a whole number"),
        ({"device": 3}, "device must be a text"),
    ],
)
def test_a_foreign_record_is_refused(change, words):
    good = Latency(1.0, 0.1, 9, 0, 0.01, "cpu", 1, 1, 8, "2").to_dict()
    with pytest.raises(UsageError, match=words):
        Latency.from_dict({**good, **change})


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"device": "cpu:1"}, {"batch": 0}, {"threads": 0}])
def test_impossible_conditions_are_refused(wrong):
    with pytest.raises(UsageError, match="latency"):
        Conditions(**wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_gpu_that_is_not_there_is_said(small):
    with pytest.raises(UsageError, match="no such GPU"):
        measure(small, device="cuda", **FEW)


def test_energy_is_mean_power_times_seconds(monkeypatch):
    """The power meter and the clock are made up: 40 W over calls of 10 ms are 400 mJ each."""
    from nas.profiling.latency import timing

    now = [0.0]

    def call():
        now[0] += 0.01

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: 40_000)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    assert energy_mj(call, torch.device("cuda")) == pytest.approx(400)
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: (_ for _ in ()).throw(ModuleNotFoundError("pynvml")))
    assert energy_mj(call, torch.device("cuda")) is None
    assert energy_mj(call, torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("ms", "text"), [(0.04123, "0.0412 ms"), (3.2149, "3.21 ms"), (99.96, "100. ms"), (1234.4, "1,234 ms")]
)
def test_milliseconds_have_three_digits(ms, text):
    assert format_ms(ms) == text.replace("100. ms", "100 ms")


def test_profile_prints_latencies_as_json_and_table(small, tmp_path, monkeypatch):
    from nas.profiling.latency import timing

    real = timing.measured
    monkeypatch.setattr(timing, "measured", lambda *given, **more: real(*given, **{**more, **FEW}))
    path = tmp_path / "small.yaml"
    path.write_text(small.to_yaml(), encoding="utf-8")
    found = json.loads(output("profile", path, path, "--latency", "--batch", "1,4", "--threads", 1, "--json"))
    assert [(own["name"], own["batch"], own["threads"]) for own in found] == [(small.name, b, 1) for b in (1, 1, 4, 4)]
    assert all(own["digest"] == small.digest for own in found)
    table = output("profile", path, "--latency")
    assert "IQR" in table and "Energy is left out" in table and "noise" in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch", "1,x", "--latency"), "whole numbers"),
        (("--batch", "0", "--latency"), "whole numbers"),
        (("--batch", "4"), "--batch: goes with --latency"),
        (("--latency", "--device", "tpu"), "known are cpu, cuda and cuda:N"),
    ],
)
def test_profile_says_what_is_wrong(words, said):
    assert said in refusal("profile", "resnet20", *words)


def test_conditions_say_themselves():
    assert str(Conditions("cpu", 32, 1)) == "cpu, batch 32, 1 thread"
    assert str(dataclasses.replace(Conditions(), threads=2)) == "cpu, batch 1, 2 threads"
