"""Progress of `nas train`, `finetune`, `compare` and `bench`; searches show theirs by `nas.searching.progress`."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from nas.cli.commands.output import console, note, progress_bar
from nas.utils.text import printable

LINE_SECONDS = 10.0  # at least, between two lines without a terminal


class Reporter(AbstractContextManager["Reporter"]):
    """Progress on standard error: on a terminal one line that changes, elsewhere lines now and then; nothing if quiet.

    figures: what the line begins with. total, done: steps of the work, and those that are done already.
    """

    def __init__(self, figures: str, total: int | None, done: int = 0, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._last = 0.0
        self._bar = None if quiet or not console(stderr=True).is_terminal else progress_bar()
        self._task = self._bar.add_task("", total=total, completed=done, figures=figures) if self._bar else None
        self._open = ExitStack()

    @property
    def live(self) -> bool:
        return self._bar is not None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._open.enter_context(self._bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def show(
        self, figures: str, line: str, *, done: int | None = None, total: int | None = None, every: float = LINE_SECONDS
    ) -> None:
        """figures: for the line that changes. line: the same as a separate line, printed if the last one is `every` seconds old."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, figures=printable(figures))
        elif not self._quiet and (now := time.monotonic()) - self._last >= every:
            self._last = now
            note(line)

    def say(self, text: str) -> None:
        """A message; on a terminal, above the line that changes."""
        if self._bar is not None:
            self._bar.console.print(printable(text), markup=False)
        elif not self._quiet:
            note(text)
