"""Pages: a run (`write`), several runs, a training, a comparison. Each is one self-contained HTML file.

In: a `Run`, or the records of trainings. Out: HTML, images, CSV, JSON, Markdown. `html/` is the frame, `figures/` are Plotly's.
Used by: commands and the end of a search. To add a section: a function in `run/`, and its line in `run/page.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.runs.run import Run

FILE = "report.html"


def write(run: Run, out: Path | None = None, *, stopping: bool = False) -> Path:
    """Write the self-contained page of a run, finished or not, to `out` (default: RUN/report.html), and return its path.

    stopping: include the section on early stopping even if nothing was stopped. NasError if the page can't be written.
    """
    from nas.report.run.page import page
    from nas.utils.files import write_text

    path = run.path / FILE if out is None else out
    write_text(path, page(run, stopping))
    return path
