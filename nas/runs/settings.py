"""What a run was asked to do: `run.yaml`, resolved, so that the run can be resumed, repeated and trusted."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.pareto.objectives import Objective, parse_objectives
from nas.profiling.gpu_packing import Packing
from nas.profiling.latency import Conditions
from nas.runs.settings_formats import FORMAT, upgraded
from nas.runs.specification import (
    BaselineSpec,
    DataSpec,
    ExecutorSpec,
    LatencySpec,
    SpaceSpec,
    StorageSpec,
    entries,
    entry,
    part,
    parts,
    read,
)
from nas.spaces.budget import Budget
from nas.spaces.space import SearchSpace, space_from_text
from nas.stopping.policies import Policy
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.utils import limits
from nas.utils.extensions import Record, recall
from nas.utils.files import write_text, write_with
from nas.utils.validation import LARGEST, brief, list_of, mapping, number, optional, reading, require, text, whole
from nas.utils.yaml_text import dump, parse_yaml, read_text

FILE = "run.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """The contents of `run.yaml`, one field a key, in its order."""

    name: str = entry(text)
    command: str = entry(text)
    created: str = entry(text)  # ISO 8601, UTC
    space: SpaceSpec = part(SpaceSpec)
    dataset: DataSpec = part(DataSpec)
    recipe: Recipe = part(Recipe)
    objectives: tuple[str, ...] = entry(list_of(text, 8))
    budgets: Mapping[str, Sequence[float | None]] = entry(mapping)
    # Of the hypervolume: chance accuracy, then the space's largest costs.
    reference: tuple[float, ...] = entry(list_of(number, 8))
    sampler: str = entry(text)
    trials: int = entry(whole(1, limits.TRIALS))
    seed: int = entry(whole(-LARGEST))
    baselines: tuple[BaselineSpec, ...] = parts(BaselineSpec, 10_000)
    executor: ExecutorSpec = part(ExecutorSpec)
    device: str = entry(text)
    precision: str = entry(text)
    versions: Mapping[str, str] = entry(mapping)
    engine: Mapping[str, Mapping[str, Any]] = entry(mapping, default_factory=dict)  # measured, by device
    proxy: Proxy = part(Proxy, default=Proxy())
    packing: Packing | None = part(Packing, default=None)  # trials on a GPU
    storage: StorageSpec | None = part(StorageSpec, default=None)  # None: the journal
    stopping: Policy = part(Policy, default=Policy())
    latency: LatencySpec | None = part(LatencySpec, default=None)
    # `nas.profiling.time_plan.Plan`, and what it is based on (`nas.searching.time_budget.Budgeted`).
    plan: Mapping[str, Any] = entry(mapping, default_factory=dict)
    # Over which a trial's gradient norms are averaged (`nas.training.gradient_flow`); 0: none are recorded.
    gradient_steps: int = entry(whole(0, 1_000_000), default=0)
    imports: tuple[Record, ...] = entry(list_of(mapping, 100), default=())  # `nas.utils.extensions`
    id: str = entry(text, default="")  # drawn when the run began; a copy of the folder keeps it
    version: int = entry(whole(1), default=FORMAT)

    def search_space(self) -> SearchSpace:
        data = self.dataset
        space = space_from_text(
            self.space.text, resolution=data.resolution, channels=data.channels, classes=len(data.classes)
        )
        return dataclasses.replace(space, budget=self.budget())

    def budget(self) -> Budget:
        return Budget({metric: (ends[0], ends[1]) for metric, ends in self.budgets.items()})

    def parsed_objectives(self) -> tuple[Objective, ...]:
        return parse_objectives(",".join(self.objectives))

    def latency_conditions(self) -> Conditions | None:
        """What latencies are measured under; None where the run measures none."""
        return None if self.latency is None else self.latency.conditions()

    def trained_resolution(self) -> int:
        """Pixels of the images that networks are trained on."""
        return self.proxy.resolution or self.dataset.resolution

    def to_dict(self) -> dict[str, Any]:
        """The contents of the file."""
        return entries(self)

    def save(self, folder: Path) -> None:
        """Write `run.yaml`. UsageError for settings that it could not be read with again."""
        data = self.to_dict()
        Settings.from_dict(data, str(folder / FILE))
        write_text(folder / FILE, dump(data, unicode=True))

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
        settings = read(cls, upgraded(data, where), where)
        _check(settings, where)
        return settings

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
            "space": parse_yaml(self.space.text, "the space in the run's settings"),
            "data": {name: getattr(self.dataset, name) for name in kept},
            "recipe": self.recipe.to_dict(),
            "proxy": self.proxy.to_dict(),
            "objectives": self.objectives,
            "seed": self.seed,  # it splits the images, too
            "precision": self.precision,
            "stopping": self.stopping.to_dict(),
        }
        if conditions := self.latency_conditions():
            what["latency"] = dataclasses.asdict(conditions)
        return json.loads(json.dumps(what, default=str))  # type: ignore[no-any-return]  # as it is read back from the study

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


def _check(settings: Settings, where: str) -> None:
    """UsageError for entries that don't fit each other: a run folder may be edited, or a stranger's."""
    require(settings.versions, {"nas": text}, f"{where}: versions")
    for record in settings.imports:
        require(record, {"module": text, "file": text, "parts": list_of(text, 1_000)}, f"{where}: imports")
    for metric, ends in settings.budgets.items():
        if wanted := list_of(optional(number), 2)(ends) or ("" if len(ends) == 2 else "two bounds"):
            raise UsageError(f"{where}: budgets: {metric} must be {wanted}, not {brief(ends)}")
    with reading(where):
        settings.budget()
        objectives = settings.parsed_objectives()
        if plan := settings.plan:
            require(plan, dict.fromkeys(("seconds", "trial_seconds", "spent"), number), "plan")
            require(plan, {"closing": number, "trials": whole(1)}, "plan", missing=True)
        require(settings.engine, dict.fromkeys(settings.engine, mapping), "engine")
        if settings.packing:
            require(dataclasses.asdict(settings.packing), {"trials_per_gpu": whole(1)}, "packing")
        if not settings.latency and any(objective.name == "latency_ms" for objective in objectives):
            raise UsageError("latency: is missing, although latency_ms is an objective")
        if len(settings.reference) != len(objectives):
            raise UsageError(f"reference must have a value for each of {len(objectives)} objectives")
        if any(value <= 0 for value in settings.reference[1:]):
            raise UsageError("reference: costs must be above 0")


def _parsed(text: str, where: str) -> object:
    data = parse_yaml(text, where)
    if isinstance(data, dict) and isinstance(data.get("id"), float):
        # Runs were begun whose id, hexadecimal digits such as 0045655e66184267, stands without quotes, as a number does.
        written = re.search(r"^id: (\w+)$", text, re.MULTILINE)
        data["id"] = written[1] if written else data["id"]
    return data
