"""The parts of a run's settings: what each entry of `run.yaml` is, and what is checked when it is read.

A part is a dataclass whose fields are made by `entry` or `part`; `read` makes it from a mapping, and `plain` gives that back.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, TypeVar

from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.profiling.latency import Conditions
from nas.utils import limits
from nas.utils.validation import Check, file_name, list_of, mapping, number, optional, reading, require, text, whole

Spec = TypeVar("Spec")


def entry(check: Check, **options: Any) -> Any:
    """A field with a plain value. options: those of `dataclasses.field`; with a default, the entry may be absent."""
    return field(metadata={"check": check}, **options)


def part(kind: type, **options: Any) -> Any:
    """A field that is a mapping in the file, read by the kind's `from_dict` or `read`, else by `read`. Default None: {} is None."""
    return field(metadata={"check": mapping, "kind": kind}, **options)


def parts(kind: type, most: int) -> Any:
    """A field that is a list of mappings in the file."""
    return field(metadata={"check": list_of(mapping, most), "kind": kind})


def read(kind: type[Spec], data: Mapping[str, Any], where: str) -> Spec:
    """The dataclass `kind` from the mapping; entries that it does not have are left out. UsageError for a wrong or missing one."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # it is a dataclass
    needed = [each.name for each in fields if each.default is MISSING and each.default_factory is MISSING]
    if missing := sorted(set(needed) - set(data)):
        raise UsageError(
            f"{where}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; the file was changed or cut off"
        )
    require(data, {each.name: each.metadata["check"] for each in fields}, where, missing=True)
    values = {each.name: _read_field(each, data[each.name], where) for each in fields if each.name in data}
    return kind(**values)


def _read_field(each: dataclasses.Field[Any], value: Any, where: str) -> Any:
    kind = each.metadata.get("kind")
    if kind is None:
        return tuple(value) if isinstance(value, list) else value
    place = f"{where}: {each.name}"
    if isinstance(value, (list, tuple)):
        return tuple(read(kind, item, place) for item in value)
    if not value and each.default is None:
        return None
    if not hasattr(kind, "from_dict"):
        return getattr(kind, "read", functools.partial(read, kind))(value, place)
    with reading(where):
        return kind.from_dict(value)


def plain(value: Any) -> Any:
    """A specification as the file has it: mappings, lists and plain values."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return entries(value)
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def entries(spec: Any) -> dict[str, Any]:
    """The fields of a specification as the file has them; a part that is None is {}."""
    fields = {each.name: getattr(spec, each.name) for each in dataclasses.fields(spec)}
    parts = {each.name for each in dataclasses.fields(spec) if "kind" in each.metadata}
    return {name: {} if value is None and name in parts else plain(value) for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """The search space: its name, its variant, and its text with all overrides."""

    name: str = entry(text)
    variant: str = entry(text)
    text: str = entry(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """The data set and its splits. root: folder of the files. asked_resolution, max_images: as the user gave them."""

    name: str = entry(text)
    source: str = entry(text)
    root: str | None = entry(optional(text))
    asked_resolution: int | None = entry(optional(whole(1, limits.RESOLUTION)), default=None)
    max_images: int | None = entry(optional(whole(1)))
    resolution: int = entry(whole(1, limits.RESOLUTION))  # pixels
    channels: int = entry(whole(1, limits.CHANNELS))
    classes: tuple[str, ...] = entry(list_of(text))
    train_images: int = entry(whole())
    validation_images: int = entry(whole())
    test_images: int = entry(whole())
    skipped_images: int = entry(whole(), default=0)
    flip: bool | None = entry(lambda value: "", default=None)
    crop_padding: int | None = entry(lambda value: "", default=None)
    fingerprint: str = entry(text)


def _share(value: object) -> str:
    return "" if isinstance(value, str) else optional(number)(value)


@dataclass(frozen=True, slots=True)
class ExecutorSpec:
    """Where and how trials are run. gpus_per_trial: a number or "auto" (measured). trial_timeout: seconds of one attempt."""

    kind: str = entry(text)
    workers: int = entry(whole(0, limits.WORKERS))
    cpus_per_trial: float | None = entry(optional(number))
    gpus_per_trial: float | str | None = entry(_share)
    address: str | None = entry(optional(text))
    trial_timeout: float | None = entry(optional(number), default=None)


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """The database of the study: its URL without the password, and the study's name in it."""

    url: str = entry(text)
    study: str = entry(text)


@dataclass(frozen=True, slots=True)
class BaselineSpec:
    """A known network that is trained before the search. The name is that of its folder in the run's."""

    name: str = entry(file_name)
    architecture: Mapping[str, Any] = entry(mapping)

    def network(self) -> Architecture:
        return Architecture.from_dict(self.architecture)


@dataclass(frozen=True, slots=True)
class LatencyMeasured:
    """What is measured before the first trial: the device, and the errors of the prediction from the network's parts."""

    measured_on: str = entry(text)
    quiet_ms: float | None = entry(optional(number), default=None)
    error: float | None = entry(optional(number), default=None)
    rank_correlation: float | None = entry(optional(number), default=None)
    parts: int | None = entry(optional(whole()), default=None)
    networks: int | None = entry(optional(whole()), default=None)


@dataclass(frozen=True, slots=True)
class LatencySpec:
    """The conditions under which latencies are measured, and their bound, max_ms."""

    device: str = entry(text)
    batch: int = entry(whole(1))
    threads: int | None = entry(optional(whole(1)))
    max_ms: float | None = entry(optional(number))
    measured: LatencyMeasured | None = part(LatencyMeasured, default=None)

    @classmethod
    def read(cls, data: Mapping[str, Any], where: str) -> LatencySpec:
        """The file has the entries of `measured` next to the others."""
        measured = read(LatencyMeasured, data, where) if "measured_on" in data else None
        spec = dataclasses.replace(read(cls, {**data, "measured": {}}, where), measured=measured)
        with reading(where):
            spec.conditions()
        return spec

    def to_dict(self) -> dict[str, object]:
        entries = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)[:-1]}
        return {**entries, **(plain(self.measured) if self.measured else {})}

    def conditions(self) -> Conditions:
        return Conditions(self.device, self.batch, self.threads)
