"""What a run was asked to do: `run.yaml`, resolved, so that the run can be resumed, repeated and trusted."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.pareto.objectives import Objective, parse_objectives
from nas.profiling.latency import Conditions
from nas.runs.settings_formats import FORMAT, upgraded
from nas.spaces.budget import Budget
from nas.spaces.space import SearchSpace, space_from_text
from nas.stopping.policies import Policy
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.utils import limits
from nas.utils.extensions import recall
from nas.utils.files import write_text, write_with
from nas.utils.validation import (
    LARGEST,
    Check,
    brief,
    file_name,
    list_of,
    mapping,
    number,
    optional,
    reading,
    require,
    text,
    whole,
)
from nas.utils.yaml_text import dump, parse_yaml, read_text

FILE = "run.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """The contents of `run.yaml`: plain data, one field a key."""

    name: str
    command: str
    created: str  # ISO 8601, UTC
    space: Mapping[str, Any]  # name, variant, text
    dataset: Mapping[str, Any]  # name, source, root, max_images, resolution, channels, classes, fingerprint, ..._images
    recipe: Mapping[str, Any]
    objectives: list[str]
    budgets: Mapping[str, list[float | None]]
    reference: list[float]  # of the hypervolume: chance accuracy, then the space's largest costs
    sampler: str
    trials: int
    seed: int
    baselines: list[Mapping[str, Any]]  # name, architecture
    executor: Mapping[str, Any]  # kind, workers, cpus_per_trial, gpus_per_trial (a number, auto or none), address
    device: str
    precision: str
    versions: Mapping[str, str]
    engine: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # measured, by device
    proxy: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # resolution, width, train_fraction
    packing: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # trials on a GPU, as `nas.profiling.gpu_packing` decided
    storage: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  # url (no password) and study; empty: the journal
    stopping: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # `nas.stopping.policies.Policy`
    latency: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # device, batch, threads, max_ms; then measured_on, torch, error: what is found before the first trial
    plan: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # `nas.profiling.time_plan.Plan`, and the promise's `spent`
    gradient_steps: int = (
        0  # over which a trial's gradient norms are averaged (`nas.training.gradient_flow`); 0: none are recorded
    )
    imports: list[Mapping[str, Any]] = dataclasses.field(
        default_factory=list
    )  # `nas.utils.extensions`: module, file, parts
    id: str = ""  # drawn when the run began; a copy of the folder keeps it
    version: int = FORMAT

    def search_space(self) -> SearchSpace:
        data = self.dataset
        space = space_from_text(
            self.space["text"], resolution=data["resolution"], channels=data["channels"], classes=len(data["classes"])
        )
        return dataclasses.replace(space, budget=self.budget())

    def budget(self) -> Budget:
        return Budget({metric: (ends[0], ends[1]) for metric, ends in self.budgets.items()})

    def parsed_objectives(self) -> tuple[Objective, ...]:
        return parse_objectives(",".join(self.objectives))

    def training_recipe(self) -> Recipe:
        return Recipe.from_dict(self.recipe)

    def training_proxy(self) -> Proxy:
        return Proxy.from_dict(self.proxy)

    def stopping_policy(self) -> Policy:
        return Policy.from_dict(self.stopping)

    def latency_conditions(self) -> Conditions | None:
        """What latencies are measured under; None where the run measures none."""
        if not self.latency:
            return None
        return Conditions(*(self.latency[name] for name in ("device", "batch", "threads")))

    def trained_resolution(self) -> int:
        """Pixels of the images that networks are trained on."""
        pixels: int = self.proxy.get("resolution") or self.dataset["resolution"]
        return pixels

    def save(self, folder: Path) -> None:
        """Write `run.yaml`. UsageError for settings that it could not be read with again."""
        _check(dataclasses.asdict(self), str(folder / FILE))
        write_text(folder / FILE, dump(dataclasses.asdict(self), unicode=True))

    @classmethod
    def load(cls, folder: Path) -> Settings:
        """The settings of a run folder; UsageError if it isn't one, or is another version's.

        Imports the modules that the run's blocks are of, where that is safe (`nas.utils.extensions`).
        """
        if not folder.is_dir() or not (folder / FILE).is_file():
            raise UsageError(
                f"{os.path.normpath(folder)}: not a run folder (no {FILE} in it); `nas search` makes one, by default "
                "under results/"
            )
        settings = cls.from_dict(_parsed(read_text(folder / FILE), str(folder / FILE)), str(folder / FILE))
        recall(settings.imports, folder)
        return settings

    @classmethod
    def from_dict(cls, data: object, where: str) -> Settings:
        """The same from the file's contents, of any format up to this one."""
        if not isinstance(data, dict):
            raise UsageError(f"{where}: not the settings of a run; the file was changed or cut off")
        data = upgraded(data, where)
        fields = dataclasses.fields(cls)
        optional = {
            field.name
            for field in fields
            if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        }
        missing = {field.name for field in fields} - optional - set(data)
        if missing:
            raise UsageError(f"{where}: {', '.join(sorted(missing))} is missing; the file was changed or cut off")
        _check(data, where)
        return cls(**{field.name: data[field.name] for field in fields if field.name in data})

    @staticmethod
    def migrate(folder: Path) -> str:
        """Bring a folder of an earlier format to this one and keep its old `run.yaml`; returns a description of what was done, or ""."""
        path = folder / FILE
        text = read_text(path)
        data = _parsed(text, str(path))
        before = data.get("version") if isinstance(data, dict) else None
        settings = Settings.from_dict(data, str(path))
        if before == FORMAT:
            return ""
        backup = path.with_name(f"{FILE}.format-{before}")
        write_with(backup, lambda file: file.write(text.encode()))
        settings.save(folder)
        return f"{FILE}: from format {before} to {FORMAT}; as it was: {backup.name}"

    def comparable(self) -> dict[str, Any]:
        """What must not change during a run, by its names: trials before and after could not be compared."""
        kept = ("fingerprint", "resolution", "channels", "classes", "train_images", "validation_images")
        what = {
            "id": self.id,
            "space": parse_yaml(self.space["text"], "the space in the run's settings"),
            "data": {name: self.dataset.get(name) for name in kept},
            "recipe": dict(self.recipe),
            "proxy": dict(self.proxy),
            "objectives": list(self.objectives),
            "seed": self.seed,  # it splits the images, too
            "precision": self.precision,
            "stopping": dict(self.stopping),
        }
        if self.latency:
            what["latency"] = {name: self.latency[name] for name in ("device", "batch", "threads")}
        plain: dict[str, Any] = json.loads(json.dumps(what, default=str))  # as it is read back from the study
        return plain

    def check_unchanged(self, before: Settings, folder: Path, mendable: bool = True) -> None:
        """UsageError if the run in `folder` began otherwise: `before` is what its study has kept. mendable: by `nas doctor`."""
        old, now = before.comparable(), self.comparable()
        if old.pop("id") != now.pop("id"):
            raise UsageError(
                f"{folder}: its study is that of another run than {FILE}: {before.name}, begun {before.created}"
            )
        if changed := [name for name in {**old, **now} if now.get(name) != old.get(name)]:
            raise UsageError(
                f"{folder}: its study has other {' and '.join(changed)} than its {FILE}, which was changed since the run began; "
                f"results would not be comparable. Put the old one back{' (`nas doctor RUN --repair` can)' if mendable else ''}, "
                "or start a new search"
            )


_CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(("name", "command", "created", "sampler", "device", "precision"), text),
    **dict.fromkeys(("space", "dataset", "recipe", "executor", "versions"), mapping),
    "objectives": list_of(text, 8),
    "budgets": mapping,
    "reference": list_of(number, 8),
    "trials": whole(1, limits.TRIALS),
    "seed": whole(-LARGEST),
    "baselines": list_of(mapping, 10_000),
}
_OF_SPACE: Mapping[str, Check] = {"name": text, "variant": text, "text": text}
_OF_DATASET: Mapping[str, Check] = {
    **dict.fromkeys(("name", "source", "fingerprint"), text),
    "root": optional(text),
    "resolution": whole(1, limits.RESOLUTION),
    "channels": whole(1, limits.CHANNELS),
    "classes": list_of(text),
    **dict.fromkeys(("train_images", "validation_images", "test_images"), whole()),
    "max_images": optional(whole(1)),
}
_LATER: Mapping[str, Check] = {"asked_resolution": optional(whole(1, limits.RESOLUTION)), "skipped_images": whole()}
_OF_EXECUTOR: Mapping[str, Check] = {
    "kind": text,
    "workers": whole(0, limits.WORKERS),
    "cpus_per_trial": optional(number),
    "gpus_per_trial": lambda value: "" if isinstance(value, str) else optional(number)(value),
    "address": optional(text),
}
_OF_EXECUTOR_LATER: Mapping[str, Check] = {"trial_timeout": optional(number)}
_OF_IMPORT: Mapping[str, Check] = {"module": text, "file": text, "parts": list_of(text, 1_000)}
_OF_LATENCY: Mapping[str, Check] = {
    "device": text,
    "batch": whole(1),
    "threads": optional(whole(1)),
    "max_ms": optional(number),
}


def _check(data: Mapping[str, Any], where: str) -> None:
    """UsageError unless the settings are such as `nas search` writes: a run folder may be edited, or a stranger's."""
    require(data, _CHECKS, where)
    require(
        data,
        dict.fromkeys(("engine", "proxy", "packing", "storage", "stopping", "latency", "plan"), mapping),
        where,
        missing=True,
    )
    require(data, {"gradient_steps": whole(0, 1_000_000), "imports": list_of(mapping, 100)}, where, missing=True)
    for entry in data.get("imports", []):
        require(entry, _OF_IMPORT, f"{where}: imports")
    require(data["space"], _OF_SPACE, f"{where}: space")
    require(data["dataset"], _OF_DATASET, f"{where}: dataset")
    require(data["dataset"], _LATER, f"{where}: dataset", missing=True)
    require(data["versions"], {"nas": text}, f"{where}: versions")
    require(data["executor"], _OF_EXECUTOR, f"{where}: executor")
    require(data["executor"], _OF_EXECUTOR_LATER, f"{where}: executor", missing=True)
    for entry in data["baselines"]:  # the name is that of a folder in the run's
        require(entry, {"name": file_name, "architecture": mapping}, f"{where}: baselines")
    for metric, ends in data["budgets"].items():
        if wanted := list_of(optional(number), 2)(ends) or ("" if len(ends) == 2 else "two bounds"):
            raise UsageError(f"{where}: budgets: {metric} must be {wanted}, not {brief(ends)}")
    with reading(where):
        objectives = parse_objectives(",".join(data["objectives"]))
        Recipe.from_dict(data["recipe"])
        Proxy.from_dict(data.get("proxy", {}))
        Policy.from_dict(data.get("stopping", {}))
        Budget({metric: (ends[0], ends[1]) for metric, ends in data["budgets"].items()})
        if plan := data.get("plan"):
            require(plan, dict.fromkeys(("seconds", "trial_seconds", "spent"), number), "plan")
            require(plan, {"closing": number}, "plan", missing=True)
            require(plan, {"trials": whole(1)}, "plan", missing=True)
        require(data.get("engine", {}), dict.fromkeys(data.get("engine", {}), mapping), "engine")
        require(data.get("packing", {}), {"trials_per_gpu": whole(1)}, "packing", missing=True)
        if latency := data.get("latency"):
            require(latency, _OF_LATENCY, "latency")
            require(latency, {"measured_on": text}, "latency", missing=True)
            Conditions(latency["device"], latency["batch"], latency["threads"])
        if not latency and any(objective.name == "latency_ms" for objective in objectives):
            raise UsageError("latency: is missing, although latency_ms is an objective")
        if len(data["reference"]) != len(objectives):
            raise UsageError(f"reference must have a value for each of {len(objectives)} objectives")
        if any(value <= 0 for value in data["reference"][1:]):
            raise UsageError("reference: costs must be above 0")


def _parsed(text: str, where: str) -> object:
    data = parse_yaml(text, where)
    if isinstance(data, dict) and isinstance(data.get("id"), float):
        # Runs were begun whose id, hexadecimal digits such as 0045655e66184267, stands without quotes, as a number does.
        written = re.search(r"^id: (\w+)$", text, re.MULTILINE)
        data["id"] = written[1] if written else data["id"]
    return data
