"""Files of pycls: a model config, or `sweep.json`, which its tools/sweep_collect.py makes from the logs of trained configs.

A sweep is a list of jobs. Keys read for each job: `cfg` (the whole config), `complexity` (`params`, `flops`, `acts`), the errors
by epoch in `test_ema_epoch` and `test_epoch` (`min_top1_err`, in percent), `epoch_ind` of `epoch_max`, and `log_file`, whose
folder names the job. A job's error is the lowest of its moving average, as in pycls' analysis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from nas.errors import UsageError
from nas.interop.importers._base import IMPORTERS, Found, Imported, Importer, Inexpressible, Options, Refused, Source
from nas.interop.importers._fields import Fields, entries
from nas.interop.importers.pycls import read_config
from nas.networks.architecture import MAX_NAME
from nas.networks.build import cost_of

LARGEST = 1 << 60  # of a count in `complexity`


def read_sweep(data: object, where: str) -> Found:
    """The jobs of a sweep that have an error, each as a network; jobs without error, and those that can't be expressed, as refused.

    UsageError if no job gives a network. A job whose `complexity` differs from the exact cost of its config is refused too.
    """
    networks, refused = [], []
    for number, job in enumerate(entries(data, where), 1):
        name = _name(job, number)
        try:
            networks.append(_job(job, name))
        except UsageError as error:
            reason = "; ".join(error.reasons) if isinstance(error, Inexpressible) else str(error)
            refused.append(Refused(name, reason))
    if not networks:
        raise UsageError(
            f"{where}: none of its {len(refused):,} jobs gives a network; {refused[0].name}: {refused[0].reason}"
        )
    return Found(tuple(networks), tuple(refused), many=True)


def _job(job: object, name: str) -> Imported:
    faults: list[str] = []
    fields = Fields(job, "", faults)
    if faults or "cfg" not in fields:
        raise Inexpressible(name, faults or ["it has no cfg"])
    network = read_config(fields.data["cfg"], name, name)
    plain, average = (_errors(fields, key) for key in ("test_epoch", "test_ema_epoch"))
    if not plain and not average:
        raise Inexpressible(name, ["no test error: the job has not finished an epoch"])
    measured: dict[str, float | int | str] = {"error": min(average or plain)}
    if plain and average:
        measured["error_without_ema"] = min(plain)
    if "complexity" in fields:
        complexity = fields.section("complexity")
        counted = {key: complexity.whole(key, least=0, most=LARGEST) for key in ("params", "flops", "acts")}
        params = cost_of(network.architecture).params
        if not faults and counted["params"] != params:
            faults.append(f"complexity.params is {counted['params']:,}, but its cfg has {params:,}")
        measured["pycls_flops"], measured["pycls_acts"] = counted["flops"], counted["acts"]
    test = fields.section("test_epoch" if plain else "test_ema_epoch")
    for column, key in (("epoch", "epoch_ind"), ("epochs", "epoch_max")):
        numbers = _numbers(test.data.get(key))
        if numbers:
            measured[column] = int(numbers[-1])
    if faults:
        raise Inexpressible(name, faults)
    provenance = {"imported": {**network.provenance["imported"], "job": name, **measured}}
    return replace(network, provenance=provenance, measured=measured)


def _errors(job: Fields, key: str) -> list[float]:
    """Top-1 errors by epoch, in percent: the running minimum, or in older sweeps the errors themselves."""
    epochs = job.data.get(key)
    if not isinstance(epochs, Mapping):
        return []
    return [error for error in _numbers(epochs.get("min_top1_err", epochs.get("top1_err"))) if 0 <= error <= 100]


def _numbers(values: object) -> list[float]:
    """The finite numbers of a list; an error of a run that diverged is NaN."""
    if not isinstance(values, list):
        return []
    plain = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return [float(value) for value in plain if abs(value) < LARGEST and math.isfinite(value)]


def _name(job: Any, number: int) -> str:
    """The folder of the job's log, or its number."""
    log = job.get("log_file") if isinstance(job, Mapping) else None
    parent = PurePosixPath(log).parent.name if isinstance(log, str) else ""
    return "".join(c for c in parent if c.isprintable())[:MAX_NAME] or f"job{number:05}"


def _claims(source: Source) -> bool:
    data = source.plain
    if isinstance(data, list):
        return bool(data) and isinstance(data[0], Mapping) and ("cfg" in data[0] or "log_file" in data[0])
    return isinstance(data, Mapping) and isinstance(data.get("MODEL"), Mapping)


def _read(source: Source, options: Options) -> Found:
    if isinstance(source.data, list):
        return read_sweep(source.data, source.text)
    return Found((read_config(source.data, source.text, source.name),))


IMPORTERS.register("pycls")(Importer("a model config (YAML) or a sweep.json of pycls", _claims, _read))
