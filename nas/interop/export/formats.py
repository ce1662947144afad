"""What an export is: a `Subject` in, files out, by an `Exporter` of the registry `EXPORTERS`.

One format is one module of this package; adding one is an entry and its line in `nas.export`. The contract tests hold every
format against every design: files that give the same network again, or `NotExpressible` with the reason.
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

Provenance: TypeAlias = Mapping[str, Any]


def plain(value: object) -> Any:
    """A copy that JSON and YAML take: what they have no type for as text, such as the dates of a config's YAML.

    Nothing stands twice in it, for which YAML would write an alias; configs are read without aliases.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


class NotExpressible(UsageError):
    """A format has no words for a design; the message says for what part of it."""

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
        """What the provenance says of the weights' training: under `weights` where they were given beside the network."""
        found = self.provenance.get("weights", self.provenance)
        return found if isinstance(found, Mapping) else {}

    @property
    def data(self) -> dict[str, Any]:
        """What it was trained on: see `data_of`."""
        return self.data_of(self.trained)

    def data_of(self, said: Provenance) -> dict[str, Any]:
        """`name`, `classes`, `mean` and `std` of the data in a provenance, as far as they can be this network's.

        A config's provenance may be anybody's, and say anything.
        """
        data = said.get("dataset")
        if not isinstance(data, Mapping):
            return {}
        found: dict[str, Any] = {"name": data["name"]} if isinstance(data.get("name"), str) else {}
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
                found[key] = list(values)
        return found

    def network(self) -> nn.Module:
        """The network in evaluation, with its weights; without any, as it starts with seed 0."""
        from nas.networks.build import build

        network = build(self.architecture, seed=0)
        if self.weights is not None:
            network.load_state_dict(dict(self.weights))
        return network.eval()


@dataclass(frozen=True, slots=True)
class Exporter:
    """A format: the `suffix` of its file or `folder`, what writes it, and in a few words what it is.

    write(subject, path): writes `path`, which isn't there yet; a file may have others beside it, whose names begin with its
    stem. `text`, for formats of one file of text alone: the same as text. load(path, threads), for formats that are programs: what
    computes logits from images by the file that was written, on so many cores. weightless: whether weights have no place in it.
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
        """A format of one file of text, in which weights have no place."""

        def write(subject: Subject, path: Path) -> None:
            path.write_text(text(subject.architecture, subject.provenance), encoding="utf-8")

        return cls(suffix, write, about, text, weightless=True)

    def __call__(self, architecture: Architecture, provenance: Provenance) -> str:
        """The text of a format that is text."""
        if self.text is None:
            raise TypeError("this format is no text; use write")
        return self.text(architecture, provenance)


EXPORTERS: Registry[Exporter] = Registry("format")
