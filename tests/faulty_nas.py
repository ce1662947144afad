"""`python faulty_nas.py ARGUMENTS`: the command line, with workers that log their epochs and make the faults of a plan."""

from __future__ import annotations

import functools
import sys

from helpers_faults import Faulty, instrument

from nas.cli.main import main
from nas.execution.ray import tune_driver as workers

if __name__ == "__main__":
    instrument()
    workers.run = functools.partial(workers.run, worker=Faulty)  # type: ignore[assignment]
    sys.exit(main())
