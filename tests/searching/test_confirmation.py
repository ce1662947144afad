"""`nas confirm` without training: what is to be trained, what is kept, what is refused, and that all that read a run agree."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
from helpers_cli import output
from helpers_confirmation import confirm, leave
from helpers_confirmation import confirmed as confirmed  # a fixture
from helpers_confirmation import made as made  # a fixture
from helpers_confirmation import run as run  # a fixture
from helpers_report import Page
from make_run import make_run, result_of

from nas.errors import NasError
from nas.interop.export import Subject, provenance
from nas.interop.export.huggingface import card
from nas.networks.architecture import Architecture
from nas.report.run import page as report_page
from nas.report.run.live_server import version
from nas.runs.attempts import Cause
from nas.runs.doctor import examine
from nas.runs.records import Estimate
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.confirmation import Confirmation
from nas.training.records import EPOCHS
from nas.utils.files import read_json, write_json
from nas.utils.text import format_percent

# -- what is trained ----------------------------------------------------------------------------------------------------


def test_the_front_and_the_baselines_seed_by_seed(run):
    searched = load_run(run)
    wanted = [t.digest for t in searched.complete() if t in searched.front() or t.label]
    jobs = confirm(run)
    assert [job.architecture.digest for job in jobs] == 3 * wanted
    assert [job.seed for job in jobs] == [seed for seed in (1, 2, 3) for _ in wanted]
    assert len({job.folder for job in jobs}) == len({job.key for job in jobs}) == len(jobs)
    again = load_run(run)
    assert again.searched_front() == [again.trial(trial.number) for trial in searched.front()]
    for trial in again.complete():
        assert [r.seed for r in trial.repeats] == ([1, 2, 3] if trial.digest in wanted else [])


def test_what_is_trained_is_not_trained_again_also_with_more_seeds(run):
    first = confirm(run, seeds=2, most=4)
    rest = confirm(run, seeds=2)
    assert not {job.folder for job in first} & {job.folder for job in rest}
    assert confirm(run, seeds=2) == []
    assert {job.seed for job in confirm(run, seeds=4)} == {3, 4}


def test_what_is_near_the_front_if_asked_for(run):
    front = {t.digest for t in load_run(run).searched_front()}
    confirm(run, seeds=2)
    further = confirm(run, seeds=2, within=0.02)
    assert further
    assert not {job.architecture.digest for job in further} & front
    assert load_run(run).by_means


def test_the_seeds_follow_the_runs_own(tmp_path):
    folder = make_run(tmp_path / "run", trials=4, seed=7)
    assert {job.seed for job in confirm(folder, seeds=2)} == {8, 9}


def test_a_training_that_was_in_flight_goes_on(run):
    with Confirmation(run, Settings.load(run), 2) as confirmation:
        job = confirmation.ask()
        assert job is not None
    with Confirmation(run, Settings.load(run), 2) as confirmation:
        assert confirmation.ask() == job
        assert (job.folder / "attempt.json").exists()


def test_what_diverged_is_known_and_what_the_machine_failed_is_tried_again(run):
    with Confirmation(run, Settings.load(run), 2) as confirmation:
        for cause in (Cause.DIVERGED, Cause.MEMORY):
            job = confirmation.ask()
            dataclasses.replace(result_of(job, failed=True), cause=cause).write(job.folder)
            confirmation.tell(job.key)
    jobs = confirm(run, seeds=2)
    assert job in jobs
    assert len(jobs) == len({(j.architecture.digest, j.seed) for j in jobs})
    assert sum(r.state == "failed" for t in load_run(run).trials for r in t.repeats) == 1
    assert "1 of 2 further trainings failed" in output("front", run)


def test_failures_alone_end_it(run):
    with Confirmation(run, Settings.load(run), 3) as confirmation, pytest.raises(NasError, match="5 trainings failed"):
        while (job := confirmation.ask()) is not None:
            result_of(job, failed=True).write(job.folder)
            confirmation.tell(job.key)


# -- who reads it -------------------------------------------------------------------------------------------------------


def test_all_that_read_a_run_agree_to_the_digit(confirmed):
    run = load_run(confirmed)
    assert run.by_means
    assert run.front() != run.searched_front()
    data = json.loads(output("front", confirmed, "--json"))
    assert data["ranked_by"] == "mean"
    assert [row["trial"] for row in data["front"]] == [trial.number for trial in run.front()]
    assert data["confirmation"]["searched_front"] == [trial.number for trial in run.searched_front()]
    assert data["confirmation"]["fall"]["mean"] == run.fall().mean
    table = {row["number"]: row for row in run.dataframe().to_dict("records")}
    lines = {int(row["trial"]): row for row in csv.DictReader(io.StringIO(output("front", confirmed, "--csv")))}
    text, html = output("front", confirmed), Page(report_page.page(run))
    rows = html.rows("Pareto-optimal networks: no other confirmed one is better")
    for trial, row, shown in zip(run.front(), data["front"], rows[1:], strict=True):
        accuracies = [read_json(confirmed / "confirmed" / name / f"seed{k}" / "result.json")["accuracy"]
                      for k in (1, 2, 3) for name in [f"baseline-{trial.label}" if trial.label else f"trial-{trial.number}"]]  # fmt: skip
        want = Estimate.of(accuracies)
        three = (want.mean, want.std_error, 3)
        names = ("accuracy_mean", "accuracy_std_error", "accuracy_seeds")
        assert tuple(row[name] for name in names) == three
        assert tuple(table[trial.number][name] for name in names) == three
        assert tuple(float(lines[trial.number][name]) for name in names) == three
        assert tuple(provenance(run, trial)[name] for name in names) == three
        cell = f"{format_percent(want.mean)} ± {format_percent(want.std_error)} (3)"
        assert cell in next(line for line in text.splitlines() if line.split()[:1] == [str(row["rank"])])
        assert shown[1:3] == [format_percent(trial.accuracy), cell]
    report = json.loads(Path(output("report", confirmed, "--format", "json").strip()).read_text(encoding="utf-8"))
    assert {row["trial"]: row["accuracy_mean"] for row in report["all_trials"]} == {
        trial.number: trial.confirmed and trial.confirmed.mean for trial in run.trials
    }
    drawn = json.loads(html.find("script", id="run")[0][1])
    assert {drawn["columns"]["number"][int(place)]: own["mean"] for place, own in drawn["repeats"].items()} == {
        trial.number: trial.confirmed.mean for trial in run.trials if trial.confirmed
    }


def test_exports_are_ranked_by_means_and_say_so(confirmed, tmp_path):
    run = load_run(confirmed)
    paths = [Path(line) for line in output("export", confirmed, "--top", 2, "--out", tmp_path).splitlines()]
    best = sorted(run.front(), key=lambda trial: trial.confirmed.mean)[-2:]
    assert {Architecture.from_yaml(path).digest for path in paths} == {trial.digest for trial in best}
    assert any(f"{format_percent(best[-1].confirmed.mean)}acc" in path.name for path in paths)
    assert f"accuracy_mean: {best[-1].confirmed.mean}" in "".join(path.read_text() for path in paths)


def test_the_table_of_an_export_agrees_with_the_names_of_its_files(confirmed, tmp_path):
    assert output("export", confirmed, "--out", tmp_path)
    page, rows = (tmp_path / "index.md").read_text(), list(csv.DictReader((tmp_path / "index.csv").open()))
    for trial, row in zip(load_run(confirmed).front(), rows, strict=True):
        found = trial.confirmed
        mean, error = format_percent(found.mean), format_percent(found.std_error)
        assert f"-{mean}acc-" in row["file"] and f"({row['file']}) | yaml | {mean} ± {error} (3) |" in page
        numbers = [float(row[name]) for name in ("accuracy", "accuracy_mean", "accuracy_std_error", "accuracy_seeds")]
        assert numbers == [trial.accuracy, found.mean, found.std_error, 3]
        assert f"| the same, mean of 3 further seeds | {mean} ± {error} % |" in card(
            Subject(trial.architecture, provenance(load_run(confirmed), trial))
        )


def test_the_words_say_how_optimistic_the_search_was(confirmed):
    run, text = load_run(confirmed), " ".join(output("front", confirmed).split())
    fall = run.fall()
    size = f"{format_percent(fall.mean)} ± {format_percent(fall.std_error)} points on average over {fall.n} networks"
    assert f"The accuracies that the search chose by fell by {size}" in text
    gone = {t.number for t in run.searched_front()} - {t.number for t in run.front()}
    assert all(f"trial {number}" in text.partition("left it")[0] for number in gone)
    assert size in Page(report_page.page(run)).words


def test_before_all_of_the_front_is_confirmed_it_is_the_searchs(run):
    searched = load_run(run).front()
    assert "`nas confirm" in output("front", run)
    jobs = confirm(run, seeds=2, most=len(searched) + 1)
    found = load_run(run)
    assert not found.by_means
    assert [t.number for t in found.front()] == [t.number for t in searched]
    data = json.loads(output("front", run, "--json"))
    assert data["ranked_by"] == "search"
    assert data["confirmation"]["trainings"] == len(jobs)
    assert "Until all are, the front is that of the search" in " ".join(output("front", run).split())


def test_contenders_are_named_with_the_command_that_trains_them(run):
    confirm(run, seeds=2, by=lambda job: -0.2)  # the front falls deep: what was near it may be as good
    text = " ".join(output("front", run).split())
    assert "trained once, would be on it" not in text  # with so large a fall taken off
    confirm(shutil.copytree(run, run.parent / "other"), seeds=2)
    rise = run.parent / "rise"
    shutil.copytree(run, rise)
    shutil.rmtree(rise / "confirmed")
    confirm(rise, seeds=2, by=lambda job: -0.05 if job.architecture.digest < "8" else 0.05)
    found = load_run(rise)
    words = " ".join(output("front", rise).split())
    if "trained once, would be on it" in words:
        within = float(words.partition("--within ")[2].partition("`")[0]) / 100
        new = {job.architecture.digest for job in confirm(rise, seeds=2, within=within)}
        assert new
        assert all(not t.repeats for t in found.complete() if t.digest in new)


def test_the_comparison_of_runs_goes_by_the_searches(confirmed, made, tmp_path):
    path = tmp_path / "compared.html"
    output("report", confirmed, made, "--out", path)
    words = Page(path.read_text(encoding="utf-8")).words
    assert "of the search's single training of each network" in words
    assert words.count(format_percent(load_run(made).best().accuracy)) >= 2


def test_markdown_has_the_means(confirmed):
    text = Path(output("report", confirmed, "--format", "md").strip()).read_text(encoding="utf-8")
    assert "Mean ± s.e. (seeds), %" in text
    for trial in load_run(confirmed).front():
        assert f"{format_percent(trial.confirmed.mean)} ± {format_percent(trial.confirmed.std_error)} (3)" in text


def test_watching_sees_each_training(run):
    seen = [version(run)]
    with Confirmation(run, Settings.load(run), 2) as confirmation:
        for _ in range(2):
            job = confirmation.ask()
            seen.append(version(run))
            leave(job)
            confirmation.tell(job.key)
            seen.append(version(run))
    assert len(set(seen)) == len(seen)


# -- the doctor ---------------------------------------------------------------------------------------------------------


def complaints(folder: Path, **options) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in examine(folder, **options):
        found.setdefault(finding.level, []).append(f"{finding.where}: {finding.what}")
    return found


def test_the_doctor_finds_nothing_wrong_with_a_confirmed_run(confirmed):
    assert not {"warning", "repairable", "needs you"} & complaints(confirmed).keys()


def test_the_doctor_knows_what_may_be_wrong(run):
    jobs = confirm(run, seeds=2)
    torn, other, hand, left, open_, strange = jobs[:6]
    torn.result_path.write_text('{"key":')
    write_json(other.result_path, {**read_json(other.result_path), "digest": "0" * 16})
    write_json(hand.result_path, {**read_json(hand.result_path), "accuracy": 0.99})
    write_json(left.folder / EPOCHS, [])
    open_.result_path.unlink()
    shutil.copytree(strange.folder.parent, run / "confirmed" / "trial-999")
    found = complaints(run)
    assert any("result.json is torn" in text for text in found["warning"])
    assert any("that of another network" in text for text in found["warning"])
    assert any("trial-999: of no trial of the run" in text for text in found["warning"])
    assert any("its accuracy is 0.99" in text for text in found["needs you"])
    assert any("not trained to its end" in text for text in found["note"])
    assert any("left by a worker" in text for text in found["repairable"])
    assert any("left by a worker" in text for text in complaints(run, repair=True)["repaired"])
    assert "repairable" not in complaints(run)
    assert {job.folder for job in confirm(run, seeds=2)} == {torn.folder, other.folder, open_.folder}
