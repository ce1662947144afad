"""Planned and actual wall time of searches with a time limit: the whole command, from its start to its end.

uv run python benchmarks/planning.py [--minutes 2 2.5 3] [--spaces resnext resnet mbconv] [--workers 2] [--executor ray]

Each search is `nas search --dataset digits --hours H`, in a separate process, which plans, chooses trials and epochs, and ends
by the clock. Planned trials and wall time are those of the plan, with its interval; actual is the time of the command. "Stopped by
the clock" are trials that ended early after an epoch. MACs are those of the mean trial divided by those of the mean random network, on
which the plan is based. End is the time from the last trial's result to the end of the command.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas.networks.build import cost_of
from nas.profiling.time_plan import representatives
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.training.proxy import Proxy
from nas.utils.files import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 2.5, 3.0])
    parser.add_argument("--spaces", nargs="+", default=["resnext", "resnet", "mbconv"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executor", default="ray")
    args = parser.parse_args()
    print(
        "| space | given, s | planned trials x epochs | planned wall, s (interval) | trials done | stopped by the clock | MACs | "
        "end, s | actual wall, s | actual over given |"
    )
    print("|---|---:|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for space, minutes in zip(args.spaces, args.minutes, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            words = ["search", "--space", space, "--dataset", "digits", "--hours", str(minutes / 60), "--out", str(out)]
            words += ["--workers", str(args.workers), "--executor", args.executor, "--quiet"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            begun, clock = time.monotonic(), time.time()
            subprocess.run(
                [sys.executable, "-m", "nas", *words], check=True, env=environment, stdout=subprocess.DEVNULL
            )
            wall = time.monotonic() - begun
            run, settings = load_run(out), Settings.load(out)
            finished = max(read_json(path)["finished"] for path in out.glob("trials/*/result.json"))
        plan, given = run.config["plan"], 60 * minutes
        trials = [trial for trial in run.trials if trial.state in ("complete", "stopped")]
        expected = statistics.mean(cost_of(own).macs for own in representatives(settings.search_space(), Proxy()))
        macs = statistics.mean(trial.cost.macs for trial in trials) / expected
        cut = sum("the hours were over" in trial.reason for trial in trials)
        trials_planned = f"{plan['trials']} ({plan['fewest']} to {plan['most']})"
        planned = f"{trials_planned} x {plan['epochs']} | {plan['wall']:.0f} ({plan['low']:.0f} to {plan['high']:.0f})"
        found = f"{len(trials)} | {cut} | {macs:.2f} | {clock + wall - finished:.1f} | {wall:.0f} | {wall / given:.2f}"
        print(f"| {space} | {given:.0f} | {planned} | {found} |", flush=True)


if __name__ == "__main__":
    main()
