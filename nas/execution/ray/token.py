"""The token that Ray asks for: where it lies, and that its owner alone can read it. Whoever has it may run code on the cluster."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nas.errors import UsageError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def token_file() -> Path | None:
    """Where Ray looks for the token; None if the environment holds the token itself."""
    if os.environ.get(TOKEN):
        return None
    told = os.environ.get(TOKEN_PATH)
    return Path(told) if told else Path.home() / ".ray" / "auth_token"


def check_token() -> list[str]:
    """See to it that the token's file holds one and that its owner alone can read it; what was changed, in words.

    UsageError where that can't be: no file, an empty one, one that is somebody else's or can't be changed.
    """
    path = token_file()
    if path is None:
        return []
    try:
        if not path.read_text(encoding="utf-8").strip():
            raise UsageError(f"{path}: is empty; it should hold the token of Ray (docs/security.md)")
        found = path.stat()
        open_to = stat.S_IMODE(found.st_mode) & 0o077
        if not open_to:
            return []
        if found.st_uid != os.getuid():
            raise UsageError(
                f"{path}: others may use this token of Ray (mode {stat.S_IMODE(found.st_mode):o}), and it is not yours to change; "
                f"name another by {TOKEN_PATH}"
            )
        path.chmod(stat.S_IMODE(found.st_mode) & ~0o077)
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(
            f"{path}: the token of Ray can't be used: {reason}; name another file by {TOKEN_PATH}, or give the token itself in {TOKEN}"
        ) from error
    said = f"{path}: others could use this token of Ray (mode {stat.S_IMODE(found.st_mode):o}); now its owner alone can read it"
    return [f"{said}. Whoever has read it before can still use it: replace it on all machines of the cluster"]
