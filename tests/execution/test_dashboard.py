"""Optuna's dashboard on a run's study as it is: the journal that it reads is the one that the driver writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from make_run import make_run
from ports import free_port

from nas.runs.layout import JOURNAL
from nas.runs.run import load_run

pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard")
START = "import sys; from optuna_dashboard._cli import main; sys.argv[0] = 'optuna-dashboard'; main()"


def asked(port: int, path: str, server: subprocess.Popen[str]) -> dict:
    """What the dashboard's server answers, once it listens."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return json.load(answer)
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.slow
def test_the_dashboard_opens_a_run_s_study_unchanged(tmp_path: Path) -> None:
    make_run(tmp_path / "run", trials=6, told=5, running=1)
    journal = tmp_path / "run" / JOURNAL
    before = journal.read_bytes()
    port = free_port()
    command = [sys.executable, "-c", START, str(journal), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            (summary,) = asked(port, "/api/studies", server)["study_summaries"]
            study = asked(port, f"/api/studies/{summary['study_id']}", server)
        finally:
            server.terminate()
    run = load_run(tmp_path / "run")
    assert summary["directions"] == list(run.directions)
    shown = {trial["number"]: trial for trial in study["trials"]}
    for trial in run.trials:
        if trial.values is not None and not trial.label:
            assert shown[trial.number]["state"] == "Complete"
            assert [float(value) for value in shown[trial.number]["values"]] == pytest.approx(list(trial.values))
    assert journal.read_bytes() == before
