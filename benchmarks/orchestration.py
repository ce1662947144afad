"""Orchestration: seconds per no-op trial of our warm workers, and of a stock Ray Tune function trial, in one run.

Ours is the whole path: a sampler (by default Optuna's TPE, as in stock) whose study is in the run folder's journal, Ray Tune, a
reused worker, its result on disk. Stock is `Tuner(function, search_alg=OptunaSearch(...))` with Tune's defaults, on the same Ray.

uv run python benchmarks/orchestration.py [--trials 200] [--stock-trials 20] [--sampler tpe]
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from nas.execution.ray import cluster
from nas.execution.ray import tune_driver as workers
from nas.searching import preparation
from nas.searching.progress import Tally
from nas.searching.request import Request
from nas.searching.study import Study
from nas.utils.files import write_json


class NoOp(workers.Worker):
    """A worker that trains nothing: each trial writes its result and ends at its first step."""

    def setup(self, config: dict[str, Any], data: Any = None, options: Any = None) -> None:
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self.job = workers.Job.from_dict(config)

    def step(self) -> dict[str, Any]:
        digest = self.job.architecture.digest
        result = {
            "key": self.job.key,
            "digest": digest,
            "state": "complete",
            "reason": "",
            "accuracy": 0.5,
            "seconds": 0.0,
            "epochs": [],
        }
        write_json(self.job.result_path, {**result, "finished": time.time()})
        return {"epoch": "", "done": True}


def ours(trials: int, folder: Path, sampler: str) -> float:
    """Seconds of `trials` no-op trials, from the first suggestion to the last result, including the workers' start."""
    _, settings, data = preparation.plan(Request(trials=trials, out=folder / "run", sampler=sampler), lambda text: None)
    with Study(folder / "run", settings) as study:
        settings.save(study.folder)
        resources = cluster.Resources.resolve(0, None, None)
        begun = time.perf_counter()
        workers.run(study, data, Tally(study), lambda: False, resources, worker=NoOp)
        seconds = time.perf_counter() - begun
        assert study.counts.complete == trials
    return seconds


def stock_trial(config: dict[str, Any]) -> dict[str, float]:
    return {"accuracy": 0.5}


def stock(trials: int, folder: Path) -> float:
    """The same number of no-op trials, run as in the documentation of Tune."""
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    os.environ.pop("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", None)
    os.environ.pop("TUNE_MAX_PENDING_TRIALS_PG", None)
    tuner = tune.Tuner(
        stock_trial,
        param_space={f"x{k}": tune.randint(0, 8) for k in range(15)},
        tune_config=tune.TuneConfig(search_alg=OptunaSearch(metric="accuracy", mode="max"), num_samples=trials),
        run_config=tune.RunConfig(name="stock", storage_path=str(folder), verbose=0),
    )
    begun = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--sampler", default="tpe", help="ours; the default is stock's too")
    parser.add_argument("--stock-trials", type=int, default=20)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        cluster.start(None)
        print(f"ray.init: {time.perf_counter() - begun:.1f} s (in neither figure)")
        # The difference of two sizes gives the time of a trial without the fixed start-up of Tune and its workers.
        few = max(args.trials // 10, 2)
        first = ours(few, Path(folder) / "few", args.sampler)
        second = ours(args.trials, Path(folder) / "many", args.sampler)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        mean, marginal = second / args.trials, (second - first) / (args.trials - few)
        print(
            f"ours:  {args.trials} trials in {second:.1f} s: {mean:.4f} s a trial (start included), {marginal:.4f} s each further one"
        )
        print(f"       driver's peak memory: {memory:.0f} MiB")
        few = max(args.stock_trials // 4, 2)
        first, second = stock(few, Path(folder) / "a"), stock(args.stock_trials, Path(folder) / "b")
        stock_mean, stock_marginal = second / args.stock_trials, (second - first) / (args.stock_trials - few)
        print(
            f"stock: {args.stock_trials} trials in {second:.1f} s: {stock_mean:.3f} s a trial, {stock_marginal:.3f} s each further one"
        )
        print(f"ratio: {stock_mean / mean:.0f} (means), {stock_marginal / marginal:.0f} (each further trial)")


if __name__ == "__main__":
    main()
