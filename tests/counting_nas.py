"""`python counting_nas.py ARGUMENTS`: the command line, with workers that log what becomes of the data."""

from __future__ import annotations

import functools
import sys

from counting import Counting

from nas.cli.main import main
from nas.execution.ray import tune_driver as workers

if __name__ == "__main__":
    workers.run = functools.partial(workers.run, worker=Counting)  # type: ignore[assignment]
    sys.exit(main())
