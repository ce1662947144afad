"""`python signalled_nas.py NUMBER CHECKPOINT ARGUMENTS`: the command line, which gets the signal of that number once that file is saved.

It sends it to itself behind the first `checkpoint.pt` of a training or comparison there, so that it comes then on any machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from nas.cli.main import main
from nas.training.comparison import Comparison
from nas.training.full_training import FullTraining

NUMBER, CHECKPOINT = int(sys.argv[1]), Path(sys.argv[2])


def signalling(save: Callable[..., None]) -> Callable[..., None]:
    def saved(*arguments: object) -> None:
        save(*arguments)
        if CHECKPOINT.exists():
            os.kill(os.getpid(), NUMBER)

    return saved


if __name__ == "__main__":
    for kind in (FullTraining, Comparison):
        kind._save = signalling(kind._save)  # type: ignore[method-assign]
    sys.argv[1:] = sys.argv[3:]
    main()
