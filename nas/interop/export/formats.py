"""An export writes a `Subject` to files by an `Exporter` of the registry `EXPORTERS`.

Each format is a module of this package; a new one needs a registry entry and its import in `nas.interop.export`. The contract
tests check every format with every design: its files give the same network again, or it raises `NotExpressible` with the
reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.utils.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

Provenance: TypeAlias = Mapping[str, object]


def plain(value: object) -> Any:
    """A copy of types that JSON and YAML have; other values, such as the dates of a config's YAML, become text.

    No object occurs twice in it, because YAML would write an alias, and configs are read without aliases.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


class NotExpressible(UsageError):
    """A format can't express a design; the message names the part."""

    def __init__(self, format_name: str, reason: str) -> None:
        super().__init__(f"not expressible as {format_name} because {reason}")
        self.reason = reason


class MissingPackage(NasError):
    """A format needs a package that is not installed; the message says how to install it."""

    def __init__(self, format_name: str, package: str) -> None:
        super().__init__(f"the format {format_name} needs a package that is missing: pip install {package}")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is exported: a network, where it comes from (plain data), and its weights under our names if there are any."""

    architecture: Architecture
    provenance: Provenance = field(default_factory=dict)
    weights: Mapping[str, Tensor] | None = None

    @property
    def trained(self) -> Provenance:
        """The provenance of the weights: the entry `weights` if they were given separately, else that of the network."""
        training = self.provenance.get("weights", self.provenance)
        return training if isinstance(training, Mapping) else {}

    @property
    def data(self) -> dict[str, Any]:
        """The data that the weights were trained on: see `data_of`."""
        return self.data_of(self.trained)

    def data_of(self, provenance: Provenance) -> dict[str, Any]:
        """`name`, `classes`, `mean` and `std` of the data in a provenance, as far as they are valid and fit the network.

        They are checked because a config's provenance may come from anyone.
        """
        data = provenance.get("dataset")
        if not isinstance(data, Mapping):
            return {}
        known: dict[str, Any] = {"name": data["name"]} if isinstance(data.get("name"), str) else {}
        classes, channels = self.architecture.head.classes, self.architecture.channels
        for key, count, kinds in (
            ("classes", classes, (str, int)),
            ("mean", channels, (int, float)),
            ("std", channels, (int, float)),
        ):
            values = data.get(key)
            if (
                isinstance(values, (list, tuple))
                and len(values) == count
                and all(isinstance(value, kinds) and not isinstance(value, bool) for value in values)
            ):
                known[key] = list(values)
        return known

    def network(self) -> nn.Module:
        """The network in evaluation mode with its weights, or with those of seed 0 if it has none."""
        from nas.networks.build import build

        network = build(self.architecture, seed=0)
        if self.weights is not None:
            network.load_state_dict(dict(self.weights))
        return network.eval()


@dataclass(frozen=True, slots=True)
class Exporter:
    """A format.

    suffix: of its file, or of its folder if `folder`. write(subject, path): writes `path`, which does not exist yet, and possibly
    further files whose names begin with its stem. about: a short description. text: for formats of one text file, the same as a
    string. load(path, threads): for formats that are programs, a function from images to logits that runs the written file on so
    many cores. weightless: whether the format has no weights.
    """

    suffix: str
    write: Callable[[Subject, Path], None]
    about: str
    text: Callable[[Architecture, Provenance], str] | None = None
    folder: bool = False
    load: Callable[[Path, int], Callable[[Tensor], object]] | None = None
    weightless: bool = False

    @classmethod
    def of_text(cls, suffix: str, text: Callable[[Architecture, Provenance], str], about: str) -> Exporter:
        """A format of one text file without weights."""

        def write(subject: Subject, path: Path) -> None:
            path.write_text(text(subject.architecture, subject.provenance), encoding="utf-8")

        return cls(suffix, write, about, text, weightless=True)

    def __call__(self, architecture: Architecture, provenance: Provenance) -> str:
        """The text of a format that is text."""
        if self.text is None:
            raise TypeError("this format is no text; use write")
        return self.text(architecture, provenance)


EXPORTERS: Registry[Exporter] = Registry("format")
