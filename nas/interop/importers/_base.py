"""What importers share: a source, what they give, and how they are found by their kind or by what a source looks like."""

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

MAX_FAULTS = 20  # said of one network
SQLITE = b"SQLite format 3\0"  # what such a file starts with
PREFIXES = ("torchvision", "timm", "optuna")  # of sources that are no files


class Inexpressible(UsageError):
    """A network that no architecture of ours builds: `reasons` is all that is in the way, in the order of the source."""

    def __init__(self, where: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(dict.fromkeys(reasons))
        shown = [*self.reasons[:MAX_FAULTS]]
        if more := len(self.reasons) - len(shown):
            shown.append(f"and {more} more")
        super().__init__(f"{where}: can't be imported: {'; '.join(shown)}")


@dataclass(frozen=True, slots=True)
class Options:
    """What a source may leave open: the images' `classes`, `resolution` and `channels`, the `space` that a study searched."""

    classes: int | None = None
    resolution: int | None = None
    channels: int | None = None
    space: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """One network. provenance: where it is from, plain data. notes: what the source says beside the network, in words.

    measured: what the source says of it, by column: its error, or the costs as the source counts them.
    """

    architecture: Architecture
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    measured: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry of a sweep or a study that gave no network, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a source holds; of a population (`many`) each entry is a network or `refused`."""

    networks: tuple[Imported, ...]
    refused: tuple[Refused, ...] = ()
    many: bool = False


class Source:
    """What a user names: `torchvision:NAME`, `timm:NAME`, `optuna:URL#STUDY`, or a file with its parsed `data`."""

    def __init__(self, text: str) -> None:
        prefix, colon, rest = text.partition(":")
        self.text = text
        self.prefix, self.rest = (prefix, rest) if colon and prefix in PREFIXES else ("", text)

    @property
    def path(self) -> Path:
        return Path(self.rest)

    @property
    def name(self) -> str:
        """A label for what is in the file: its name without suffix."""
        return "".join(c for c in self.path.stem if c.isprintable())[:MAX_NAME]

    @property
    def file(self) -> Path:
        """The file by itself: an Optuna storage may have its study's name behind a #."""
        return self.path if self.path.exists() else Path(self.rest.partition("#")[0])

    @cached_property
    def is_study(self) -> bool:
        """Whether the file is an Optuna journal, by its first line, or an SQLite database. A pipe is read once, and is none."""
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
        """The file's `data`; None for what is no file of plain data."""
        return None if self.prefix or self.is_study else self.data

    @cached_property
    def data(self) -> object:
        """Plain data of a JSON or YAML file; UsageError if it is neither, too large, or nested too deeply."""
        return read_data(self.path)


@dataclass(frozen=True, slots=True)
class Importer:
    """A kind of source. claims: whether a source looks like this kind. read: its networks, or UsageError.

    of_choices: whether its networks are choices of a space, that of the options.
    """

    about: str
    claims: Callable[[Source], bool]
    read: Callable[[Source, Options], Found]
    of_choices: bool = False


IMPORTERS: Registry[Importer] = Registry("kind of source")


def import_source(text: str, kind: str = "auto", options: Options | None = None) -> Found:
    """The networks of a source, each with exact costs; Inexpressible with all reasons if its one network is not ours.

    kind: a name of `IMPORTERS`, or `auto`: whichever claims the source. UsageError if none does.
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
    found = importer.read(source, options)
    return dataclasses.replace(found, networks=tuple(_adapted(network, options) for network in found.networks))


def made(where: str, faults: Sequence[str], **parts: Any) -> Architecture:
    """The canonical architecture of these parts, which can be built. Inexpressible for `faults`, or what else is in the way."""
    if faults:
        raise Inexpressible(where, faults)
    try:
        architecture = Architecture(**parts).canonical()
        cost_of(architecture)
    except UsageError as error:
        raise Inexpressible(where, [str(error)]) from None
    return architecture


def _adapted(network: Imported, options: Options) -> Imported:
    """The network with the classes and resolution that the user asks for."""
    own = network.architecture
    if options.classes is None and options.resolution is None and options.channels is None:
        return network
    other = own.adapted(
        classes=options.classes or own.head.classes,
        resolution=options.resolution or own.resolution,
        channels=options.channels or own.channels,
    )
    return dataclasses.replace(network, architecture=other)


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
            # What Python prints of a dict is YAML, and no JSON.
            if len(text) > limits.CONFIG_BYTES:
                raise UsageError(f"{path}: not readable as JSON: {reason_of(error)}") from None
    return parse_yaml(text, str(path))


def _whole(text: str) -> int:
    if len(text) > limits.DIGITS:
        raise ValueError(f"a number of {len(text):,} characters; at most {limits.DIGITS} are read")
    return int(text)
