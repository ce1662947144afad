"""What the tests of the command line share: calling it as a user does, in this process or as one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from nas.cli.main import cli

SIGNALLED = str(Path(__file__).parent / "signalled_nas.py")
SMALL = """\
name: small
resolution: 8
channels: 1
stem: {kind: cifar, width: 4}
stages: [{depth: 1, width: 4, branch: basic}]
head: {kind: linear, classes: 10}
"""


def nas_(*arguments: object, **environment: str):
    """`nas ARGUMENTS` in this process: exit_code, stdout, stderr."""
    result = CliRunner(env=environment).invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def output(*arguments: object) -> str:
    """What a command that must succeed writes to standard output."""
    result = nas_(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: object, code: int = 2) -> str:
    """The one line of a command that must fail with `code` and say nothing else."""
    result = nas_(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def signalled(number: int, checkpoint: Path, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """`nas ARGUMENTS`, as a process that gets the signal of that number once that checkpoint is saved."""
    command = [sys.executable, SIGNALLED, str(int(number)), str(checkpoint), *map(str, arguments)]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 250, "check": False, **options})


def process(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """`python -m nas ARGUMENTS`, as a process."""
    command = [sys.executable, "-m", "nas", *map(str, arguments)]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 120, "check": False, **options})
