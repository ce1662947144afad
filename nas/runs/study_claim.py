"""One run folder a study, for studies that a lock in the folder can't keep: two copies of the folder name the same database.

Each driver leaves a new nonce in its folder and then in the study. A folder whose nonces don't hold the study's is a copy, or an
old state, of one that was driven on elsewhere: it would adopt trials whose results lie there. The driver of a folder that was
copied under it finds the copy's nonce in the study, and stops.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import NasError, UsageError
from nas.utils.files import read_json, write_json

if TYPE_CHECKING:
    import optuna

FILE = "claim.json"
ATTRIBUTE = "claim"  # of the Optuna study


@dataclass(frozen=True, slots=True)
class Claim:
    """This driver's hold on a study."""

    folder: Path
    study: optuna.Study
    nonce: str

    def check(self) -> None:
        """NasError if a driver of another copy of the folder has taken the study since."""
        if self.study.user_attrs.get(ATTRIBUTE) != self.nonce:
            raise NasError(
                f"{self.folder}: a driver of another copy of this folder has taken its study over and continues there"
            )


def check(folder: Path, study: optuna.Study) -> None:
    """UsageError if the study was driven on from another copy of the folder since this one was made."""
    now, kept = study.user_attrs.get(ATTRIBUTE), read_json(folder / FILE)
    if now is not None and now not in (kept if isinstance(kept, list) else []):
        raise UsageError(
            f"{folder}: its study, in a database, was driven on from another copy of this folder, where the results since lie; "
            f"continue there, or, if that copy is lost, write {json.dumps([now])} into {FILE}"
        )


def claim(folder: Path, study: optuna.Study) -> Claim:
    """Take the study for this folder. UsageError as of `check`."""
    check(folder, study)
    now = study.user_attrs.get(ATTRIBUTE)
    nonce = secrets.token_hex(8)
    write_json(
        folder / FILE, [*([] if now is None else [now]), nonce]
    )  # both, if the driver is killed before the next line
    study.set_user_attr(ATTRIBUTE, nonce)
    return Claim(folder, study, nonce)
