"""Start-up time of whole processes: `nas --help` and a cost, compared with `import torch`, alternating.

uv run python benchmarks/startup.py [--runs 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "nas --help": [sys.executable, "-m", "nas", "--help"],
    "nas profile resnet50": [sys.executable, "-m", "nas", "profile", "resnet50"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(runs + 1):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:  # the first fills the disk's cache
                times[name].append(time.perf_counter() - begun)
    torch = statistics.median(times["import torch"])
    for name, row in times.items():
        median = statistics.median(row)
        print(
            f"{name:>22}: median {median:.3f} s ({min(row):.3f} to {max(row):.3f}), {median / torch:.3f} of import torch"
        )


if __name__ == "__main__":
    main()
