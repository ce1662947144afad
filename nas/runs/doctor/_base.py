"""What a check finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nas.runs.layout import ATTRIBUTE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Level = Literal["fine", "note", "warning", "repairable", "repaired", "needs you"]
SICK: tuple[Level, ...] = ("repairable", "needs you")  # what keeps a run or a machine from counting as healthy


@dataclass(frozen=True, slots=True)
class Finding:
    """`fine`, a `note`, a `warning` (works, but), `repairable` (by --repair), `repaired`, or `needs you`; `advice` what to do."""

    level: Level
    where: str  # a file of the run, a trial, a part of the machine
    what: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"level": self.level, "where": self.where, "what": self.what, "advice": self.advice}


def digest_of(trial: FrozenTrial) -> str | None:
    """The digest of a trial's network as the study has it; None if it has none."""
    facts = trial.user_attrs.get(ATTRIBUTE)
    digest = facts.get("digest") if isinstance(facts, Mapping) else None
    return digest if isinstance(digest, str) else None


def healthy(findings: list[Finding]) -> bool:
    return not any(finding.level in SICK for finding in findings)
