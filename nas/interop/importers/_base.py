"""Common parts of importers: sources, results, and the choice of an importer by name or by a source's contents."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.errors import UsageError, reason_of
from nas.networks.architecture import MAX_NAME, Architecture
from nas.networks.build import cost_of
from nas.utils import limits
from nas.utils.registry import Registry
from nas.utils.yaml_text import parse_yaml

MAX_FAULTS = 20  # shown for one network
SQLITE = b"SQLite format 3\0"  # the first bytes of such a file
PREFIXES = ("torchvision", "timm", "optuna")  # of sources that are not files


class Inexpressible(UsageError):
    """A network that no architecture of ours builds. reasons: all of them, in the order of the source."""

    def __init__(self, where: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(dict.fromkeys(reasons))
        shown = [*self.reasons[:MAX_FAULTS]]
        if more := len(self.reasons) - len(shown):
            shown.append(f"and {more} more")
        super().__init__(f"{where}: can't be imported: {'; '.join(shown)}")


@dataclass(frozen=True, slots=True)
class Options:
    """What a source may not contain: `classes`, `resolution` and `channels` of the images, and the `space` of a study."""

    classes: int | None = None
    resolution: int | None = None
    channels: int | None = None
    space: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """One network. provenance: where it is from, as plain data. notes: other settings in the source, in words.

    measured: the source's measurements by column: its error, or its costs as the source counts them.
    """

    architecture: Architecture
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    measured: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry of a sweep or a study that gives no network, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """The networks of a source. many: whether it is a population, whose other entries are in `refused`."""

    networks: tuple[Imported, ...]
    refused: tuple[Refused, ...] = ()
    many: bool = False


class Source:
    """A source as a user names it: `torchvision:NAME`, `timm:NAME`, `optuna:URL#STUDY`, or a file with its parsed `data`."""

    def __init__(self, text: str) -> None:
        prefix, colon, rest = text.partition(":")
        self.text = text
        self.prefix, self.rest = (prefix, rest) if colon and prefix in PREFIXES else ("", text)

    @property
    def path(self) -> Path:
        return Path(self.rest)

    @property
    def name(self) -> str:
        """A label for the file's network: the file's name without suffix."""
        return "".join(c for c in self.path.stem if c.isprintable())[:MAX_NAME]

    @property
    def file(self) -> Path:
        """The path of the file, without the #STUDY that may follow an Optuna storage."""
        return self.path if self.path.exists() else Path(self.rest.partition("#")[0])

    @cached_property
    def is_study(self) -> bool:
        """Whether the file is an Optuna journal (by its first line) or an SQLite database; not a pipe, which can be read only once."""
        if not self.file.is_file():
            return False
        try:
            with self.file.open("rb") as file:
                line = file.readline(limits.CONFIG_BYTES)
                return line.startswith(SQLITE) or (line.startswith(b"{") and b'"op_code"' in line)
        except (OSError, ValueError):
            return False

    @property
    def plain(self) -> object:
        """The file's `data`; None for sources that are not files of plain data."""
        return None if self.prefix or self.is_study else self.data

    @cached_property
    def data(self) -> object:
        """Plain data of a JSON or YAML file; UsageError if it is neither, too large, or nested too deeply."""
        return read_data(self.path)


@dataclass(frozen=True, slots=True)
class Importer:
    """A kind of source. claims: whether a source looks like this kind. read: its networks, or UsageError.

    of_choices: whether its networks are choices of a space, which the options must name.
    """

    about: str
    claims: Callable[[Source], bool]
    read: Callable[[Source, Options], Found]
    of_choices: bool = False


IMPORTERS: Registry[Importer] = Registry("kind of source")


def import_source(text: str, kind: str = "auto", options: Options | None = None) -> Found:
    """The networks of a source, each with exact costs; Inexpressible with all reasons if its only network can't be built.

    kind: a name of `IMPORTERS`, or `auto` for the first that claims the source. UsageError if none does.
    """
    options = options or Options()
    source = Source(text)
    if source.prefix and kind not in ("auto", source.prefix):
        raise UsageError(f"{text}: its beginning says {source.prefix}, --from {kind}; leave one of them out")
    if kind == "auto":
        if not source.prefix and not source.file.exists():
            raise UsageError(
                f"{text}: no such file; a library's network is timm:NAME or torchvision:NAME, a study in a database optuna:URL"
            )
        kind = next((name for name, importer in IMPORTERS.items() if importer.claims(source)), "")
        if not kind:
            known = "; ".join(f"{name}: {importer.about}" for name, importer in IMPORTERS.items())
            raise UsageError(f"{text}: none of the sources that are read here ({known}); --from says which it is")
    importer = IMPORTERS.find(kind)
    if options.space is not None and not importer.of_choices:
        raise UsageError(
            f"--space says what a study's parameters are choices of; {text} is read as {kind}, and has none"
        )
    result = importer.read(source, options)
    return dataclasses.replace(result, networks=tuple(_adapted(network, options) for network in result.networks))


def made(where: str, faults: Sequence[str], **parts: Any) -> Architecture:
    """The canonical architecture of these parts. Inexpressible with `faults`, or with the reason why it can't be built."""
    if faults:
        raise Inexpressible(where, faults)
    try:
        architecture = Architecture(**parts).canonical()
        cost_of(architecture)
    except UsageError as error:
        raise Inexpressible(where, [str(error)]) from None
    return architecture


def _adapted(network: Imported, options: Options) -> Imported:
    """The network with the classes, resolution and channels of the options."""
    if options.classes is None and options.resolution is None and options.channels is None:
        return network
    architecture = network.architecture
    adapted = architecture.adapted(
        classes=options.classes or architecture.head.classes,
        resolution=options.resolution or architecture.resolution,
        channels=options.channels or architecture.channels,
    )
    return dataclasses.replace(network, architecture=adapted)


def read_data(path: Path) -> object:
    """Plain data of a JSON file of at most 64 MiB or a YAML file of at most 1 MiB. UsageError for anything else."""
    try:
        text = limits.read_bytes(path, limits.RECORD_BYTES, "a file to import").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file: byte {error.start:,} is not UTF-8") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text, parse_int=_whole)
        except RecursionError:
            raise UsageError(f"{path}: not readable as JSON: nested too deeply") from None
        except ValueError as error:
            # A dict as Python prints it is YAML, but not JSON.
            if len(text) > limits.CONFIG_BYTES:
                raise UsageError(f"{path}: not readable as JSON: {reason_of(error)}") from None
    return parse_yaml(text, str(path))


def _whole(text: str) -> int:
    if len(text) > limits.DIGITS:
        raise ValueError(f"a number of {len(text):,} characters; at most {limits.DIGITS} are read")
    return int(text)
