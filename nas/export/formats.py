"""What an export is: a `Subject` in, files out, by an `Exporter` of the registry `EXPORTERS`.

One format is one module of this package; adding one is an entry and its line in `nas.export`. The contract tests hold every
format against every design: files that give the same network again, or `NotExpressible` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.architecture import Architecture
from nas.errors import NasError, UsageError
from nas.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

Provenance: TypeAlias = Mapping[str, Any]


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

    def network(self) -> nn.Module:
        """The network in evaluation, with its weights; without any, as it starts with seed 0."""
        from nas.network import build

        network = build(self.architecture, seed=0)
        if self.weights is not None:
            network.load_state_dict(dict(self.weights))
        return network.eval()


@dataclass(frozen=True, slots=True)
class Exporter:
    """A format: the `suffix` of its file or `folder`, what writes it, and in a few words what it is.

    write(subject, path): writes `path`, which isn't there yet; a file may have others beside it, whose names begin with its
    stem. `text`, for formats of one file of text alone: the same as text. load(path, threads), for formats that are programs: what
    computes logits from images by the file that was written, on so many cores.
    """

    suffix: str
    write: Callable[[Subject, Path], None]
    about: str
    text: Callable[[Architecture, Provenance], str] | None = None
    folder: bool = False
    load: Callable[[Path, int], Callable[[Tensor], object]] | None = None

    @classmethod
    def of_text(cls, suffix: str, text: Callable[[Architecture, Provenance], str], about: str) -> Exporter:
        """A format of one file of text, in which weights have no place."""

        def write(subject: Subject, path: Path) -> None:
            path.write_text(text(subject.architecture, subject.provenance), encoding="utf-8")

        return cls(suffix, write, about, text)

    def __call__(self, architecture: Architecture, provenance: Provenance) -> str:
        """The text of a format that is text."""
        if self.text is None:
            raise TypeError("this format is no text; use write")
        return self.text(architecture, provenance)


EXPORTERS: Registry[Exporter] = Registry("format")
