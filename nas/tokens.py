"""The token that Ray asks for: where it lies, and that its owner alone can read it. Whoever has it may run code on the cluster."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from nas.errors import NasError, UsageError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def token_file() -> Path | None:
    """Where Ray looks for the token; None if the environment holds the token itself."""
    if os.environ.get(TOKEN):
        return None
    told = os.environ.get(TOKEN_PATH)
    return Path(told) if told else Path.home() / ".ray" / "auth_token"


def ensure_token() -> list[str]:
    """See to it that there is a token and that its owner alone can read it; what was changed, in words.

    UsageError where that can't be: a file of somebody else's, or one named by RAY_AUTH_TOKEN_PATH that is not there.
    """
    path = token_file()
    if path is None:
        return []
    try:
        if not _holds_token(path):
            if os.environ.get(TOKEN_PATH) and not path.exists():
                raise UsageError(f"{TOKEN_PATH}={path}: no such file; it should hold the token of Ray")
            _write(path)
            return []
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
        raise NasError(
            f"{path}: the token of Ray can't be kept: {getattr(error, 'strerror', None) or error}"
        ) from error
    said = f"{path}: others could use this token of Ray (mode {stat.S_IMODE(found.st_mode):o}); now its owner alone can read it"
    return [f"{said}. Whoever has read it before can still use it: remove the file, and a new one is made"]


def _holds_token(path: Path) -> bool:
    return path.exists() and bool(path.read_text(encoding="utf-8").strip())


def _write(path: Path) -> None:
    """A new token, in a file that was never anybody else's to read; of two that write one at once, the first one's is kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))  # as `ray get-auth-token --generate` makes them
        try:
            os.link(temporary, path)
        except OSError:  # there is one, or this file system has no links
            if not _holds_token(path):
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
