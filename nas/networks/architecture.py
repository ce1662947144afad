"""A network as data: stem, stages of one repeated block, head, and the size of its images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from nas.errors import UsageError
from nas.networks.blocks import (
    BRANCHES,
    HEADS,
    MERGES,
    SHORTCUTS,
    STEMS,
    Block,
    Branch,
    Head,
    Merge,
    Part,
    Shortcut,
    Stem,
)
from nas.networks.blocks.activations import NORM_EPS
from nas.networks.blocks.shortcuts import Identity
from nas.utils import limits
from nas.utils.registry import Registry, did_you_mean
from nas.utils.yaml_text import dump, parse_yaml, read_text

P = TypeVar("P", bound=Part)
E = TypeVar("E", Stem, Head)

VERSION = 1
MAX_STAGES, MAX_DEPTH, MAX_RESOLUTION, MAX_NAME = limits.STAGES, limits.DEPTH, limits.RESOLUTION, limits.NAME


@dataclass(frozen=True, slots=True)
class Stage:
    """`depth` blocks of one design with `width` output channels; the first block carries the `stride`."""

    branch: Branch
    depth: int
    width: int
    stride: int = 1
    shortcut: Shortcut = Identity()  # noqa: RUF009 - frozen
    merge: Merge = MERGES["add"]()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        for name, value, most in (
            ("depth", self.depth, MAX_DEPTH),
            ("width", self.width, limits.WIDTH),
            ("stride", self.stride, limits.STRIDE),
        ):
            _whole(value, name, most)

    def blocks(self, width_in: int) -> Iterator[tuple[Block, int]]:
        """The stage's distinct blocks with their numbers: the first, and the `depth` - 1 others."""
        yield Block(self.branch, self.shortcut, self.merge, width_in, self.width, self.stride), 1
        if self.depth > 1:
            # After the first block the shapes agree, so that all kinds but those that always project are the identity.
            shortcut = self.shortcut.canonical(self.width, self.width, 1)
            yield Block(self.branch, shortcut, self.merge, self.width, self.width, 1), self.depth - 1

    def canonical(self, width_in: int) -> Stage:
        """The representative of all stages that build the same blocks on `width_in` channels."""
        return _canonical(self, width_in)

    def to_dict(self) -> dict[str, object]:
        return {
            "depth": self.depth,
            "width": self.width,
            "stride": self.stride,
            "branch": self.branch.to_dict(),
            "shortcut": self.shortcut.to_dict(),
            "merge": self.merge.to_dict(),
        }


@lru_cache(maxsize=1 << 14)  # a search meets the same stages again and again
def _canonical(stage: Stage, width_in: int) -> Stage:
    shortcut, merge = stage.shortcut, stage.merge
    first, _ = next(stage.blocks(width_in))
    if merge.uses_shortcut:
        around = shortcut.canonical(*first.inner)
        others = shortcut.canonical(stage.width, stage.width, 1)
        # The first block's equivalent may replace the shortcut only if the other blocks stay the same.
        if stage.depth == 1 or around.canonical(stage.width, stage.width, 1) == others:
            shortcut = around
    if not merge.uses_shortcut or (stage.depth == 1 and not _leads(first)):
        shortcut, merge = Identity(), MERGES["none"]()
    return replace(stage, branch=stage.branch.canonical(stage.stride), shortcut=shortcut, merge=merge)


@lru_cache(maxsize=1 << 10)
def _canonical_end(end: E, raw: bool) -> E:
    return end.canonical(raw)


def _leads(block: Block) -> bool:
    """Whether a block has a path around its branch; True where its shortcut can't join the shapes (an error later)."""
    try:
        return block.path() is not None
    except UsageError:
        return True


@lru_cache(maxsize=1 << 14)
def _stage_json(stage: Stage) -> str:
    """Canonical JSON of a canonical stage, without the options at their defaults."""
    parts = (part.changed_options() for part in (stage.branch, stage.shortcut, stage.merge))
    return _json([stage.depth, stage.width, stage.stride, *parts])


@lru_cache(maxsize=1 << 10)
def _end_json(end: Stem | Head) -> str:
    return _json(end.changed_options())


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network as data, frozen and hashable. `digest` identifies it, `to_yaml` writes it, `nas.build` builds it.

    `resolution` is the side of the square images in pixels, `channels` their channels (3, or 1 for gray). `norm_eps` is
    what batch normalization adds to the variance. `name` is a label only: it is not part of the digest.
    """

    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    resolution: int
    channels: int = 3
    name: str = ""
    norm_eps: float = NORM_EPS

    def __post_init__(self) -> None:
        _whole(self.resolution, "resolution", MAX_RESOLUTION)
        _whole(self.channels, "channels", limits.CHANNELS)
        if not 1 <= len(self.stages) <= MAX_STAGES:
            raise UsageError(f"an architecture has from 1 to {MAX_STAGES} stages, not {len(self.stages)}")
        if not isinstance(self.name, str) or len(self.name) > MAX_NAME or not self.name.isprintable():
            raise UsageError(f"name must be one line of at most {MAX_NAME} characters, not {self.name!r:.300}")
        if isinstance(self.norm_eps, bool) or not isinstance(self.norm_eps, float) or not 0 < self.norm_eps <= 1:
            raise UsageError(f"norm_eps must be a number above 0 and at most 1, not {self.norm_eps!r:.80}")

    @property
    def raw(self) -> bool:
        """Whether the trunk ends without norm and activation, as the last branch leaves it."""
        return self.stages[-1].branch.raw

    def parts(self) -> Iterator[tuple[Registry[Any], str]]:
        """The registry and the kind of each part."""
        yield from ((STEMS, self.stem.kind), (HEADS, self.head.kind))
        for stage in self.stages:
            yield from ((BRANCHES, stage.branch.kind), (SHORTCUTS, stage.shortcut.kind), (MERGES, stage.merge.kind))

    def canonical(self) -> Architecture:
        """The representative of all architectures that build this network: options without effect have one fixed value."""
        stages, width = [], self.stem.width
        for stage in self.stages:
            stages.append(stage.canonical(width))
            width = stage.width
        stem, head = _canonical_end(self.stem, self.stages[0].branch.raw), _canonical_end(self.head, self.raw)
        if (stem, tuple(stages), head) == (self.stem, self.stages, self.head):
            return self
        return replace(self, stem=stem, stages=tuple(stages), head=head)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON: equal networks have equal digests.

        Options at their defaults are left out, so that an option which a later release adds changes no digest.
        """
        network = self.canonical()
        stages = ",".join(map(_stage_json, network.stages))
        more = "" if network.norm_eps == NORM_EPS else "," + _json({"norm_eps": network.norm_eps})
        stem, head = _end_json(network.stem), _end_json(network.head)
        text = f"[{network.resolution},{network.channels},{stem},[{stages}],{head}{more}]"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def adapted(self, *, classes: int, resolution: int, channels: int, stem: Stem | None = None) -> Architecture:
        """The same design for other images and classes; `stem` replaces the stem's kind and width."""
        head = replace(self.head, classes=classes)
        return replace(self, head=head, resolution=resolution, channels=channels, stem=stem or self.stem)

    def to_dict(self) -> dict[str, object]:
        """Plain data with every option; `from_dict` reads it back."""
        return {
            "version": VERSION,
            **({"name": self.name} if self.name else {}),
            "resolution": self.resolution,
            "channels": self.channels,
            **({"norm_eps": self.norm_eps} if self.norm_eps != NORM_EPS else {}),
            "stem": self.stem.to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
            "head": self.head.to_dict(),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"  # YAML reads no surrogate pairs

    def to_yaml(self) -> str:
        return dump(self.to_dict(), flow=None)

    @classmethod
    def from_dict(cls, data: object, where: str = "architecture") -> Architecture:
        """An architecture from plain data; UsageError with the place of what is wrong."""
        fields = _mapping(
            data,
            where,
            known=("version", "name", "resolution", "channels", "norm_eps", "stem", "stages", "head", "provenance"),
        )
        version = fields.get("version", VERSION)
        if isinstance(version, bool) or version != VERSION:
            raise UsageError(f"{where}: version {version!r} is not {VERSION}, the one that this release reads")
        stages = fields.get("stages")
        if not isinstance(stages, list):
            raise UsageError(f"{where}: stages must be a list, one entry per stage")
        with _place(where):
            return cls(
                name=fields.get("name", ""),
                resolution=_required(fields, "resolution", where),
                channels=fields.get("channels", 3),
                norm_eps=fields.get("norm_eps", NORM_EPS),
                stem=_part(STEMS, fields.get("stem"), f"{where}: stem"),
                stages=tuple(_stage(stage, f"{where}: stage {k}") for k, stage in enumerate(stages, 1)),
                head=_part(HEADS, fields.get("head"), f"{where}: head"),
            )

    @classmethod
    def from_yaml(cls, source: str | Path) -> Architecture:
        """An architecture from YAML or JSON: a path, or the text itself, recognized by a line break in it."""
        if isinstance(source, str) and "\n" in source:
            text, where = source, "architecture"
        else:
            path = Path(source)
            where, text = str(path), read_text(path)
        return cls.from_dict(parse_yaml(text, where), where)

    def __str__(self) -> str:
        return (
            self.name
            or f"{'-'.join(str(stage.depth) for stage in self.stages)} {self.stages[0].branch.kind} {self.digest[:8]}"
        )


class _place:
    """Context manager: puts the place of a part before the message of a UsageError."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UsageError) and not str(error).startswith(self.where):
            raise UsageError(f"{self.where}: {error}") from None


def _mapping(data: object, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected a mapping of {', '.join(known)}; found {type(data).__name__}")
    for key in data:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, list(known))}; known: {', '.join(known)}")
    return data


def _required(fields: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in fields:
        raise UsageError(f"{where}: {name} is missing")
    return fields[name]


def _whole(value: object, name: str, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UsageError(f"{name} must be a whole number from 1 to {most:,}, not {value!r}")


def _part(registry: Registry[type[P]], data: object, where: str) -> P:
    fields = {"kind": data} if isinstance(data, str) else data
    if not isinstance(fields, Mapping) or "kind" not in fields:
        raise UsageError(f"{where}: expected {{kind: ...}}; known kinds: {', '.join(registry)}")
    with _place(where):
        return registry.find(fields["kind"]).make({str(key): value for key, value in fields.items() if key != "kind"})


def _stage(data: object, where: str) -> Stage:
    fields = _mapping(data, where, known=("depth", "width", "stride", "branch", "shortcut", "merge"))
    with _place(where):
        return Stage(
            branch=_part(BRANCHES, _required(fields, "branch", where), f"{where}: branch"),
            depth=_required(fields, "depth", where),
            width=_required(fields, "width", where),
            stride=fields.get("stride", 1),
            shortcut=_part(SHORTCUTS, fields.get("shortcut", "projection"), f"{where}: shortcut"),
            merge=_part(MERGES, fields.get("merge", "add"), f"{where}: merge"),
        )
