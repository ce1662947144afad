"""Ray's token: where it is, and a check that only its owner can read it. Anyone who has it may run code on the cluster."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nas.errors import UsageError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def token_file() -> Path | None:
    """The file in which Ray looks for the token; None if the environment holds the token itself."""
    if os.environ.get(TOKEN):
        return None
    given = os.environ.get(TOKEN_PATH)
    return Path(given) if given else Path.home() / ".ray" / "auth_token"


def check_token() -> list[str]:
    """Check that the token's file holds a token, and make it readable by its owner only; returns messages about changes.

    UsageError if the file is missing or empty, belongs to another user or can't be changed.
    """
    path = token_file()
    if path is None:
        return []
    try:
        if not path.read_text(encoding="utf-8").strip():
            raise UsageError(f"{path}: is empty; it should hold Ray's token (docs/security.md)")
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if not mode & 0o077:
            return []
        if status.st_uid != os.getuid():
            raise UsageError(
                f"{path}: other users can read or write this token of Ray (mode {mode:o}), and another user owns the file; "
                f"name another file in {TOKEN_PATH}"
            )
        path.chmod(mode & ~0o077)
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(
            f"{path}: the token of Ray can't be used: {reason}; name another file in {TOKEN_PATH}, or give the token itself in {TOKEN}"
        ) from error
    change = f"{path}: other users could read or write this token of Ray (mode {mode:o}); now only its owner can"
    return [f"{change}. Anyone who has read it before can still use it: replace it on all machines of the cluster"]
