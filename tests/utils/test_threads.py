"""`--threads` reaches PyTorch, whether it is loaded already or not."""

from __future__ import annotations

import importlib
import os

import click
import pytest
import torch
from click.testing import CliRunner

from nas.cli.commands.options import threads_option

CODE = """
import sys
import click
from nas.cli.commands.options import threads_option

@click.command()
@threads_option
def command():
    assert "torch" not in sys.modules
    import torch
    print(torch.get_num_threads())

command({arguments}, standalone_mode=False)
"""


def test_before_torch_is_loaded(python):
    assert python(CODE.format(arguments=["--threads", "2"])).split() == ["2"]


def test_after_torch_is_loaded(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "5")

    @click.command()
    @threads_option
    def command() -> None:
        click.echo(torch.get_num_threads())

    before = torch.get_num_threads()
    try:
        assert CliRunner().invoke(command, ["--threads", "2"]).output == "2\n"
        assert os.environ["OMP_NUM_THREADS"] == "2"
        assert CliRunner().invoke(command, ["--threads", "0"]).exit_code == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["train", "compare", "finetune"])
def test_commands_that_train_here_have_it(name):
    command = getattr(importlib.import_module(f"nas.cli.commands.{name}"), name)
    assert "--threads" in [option for parameter in command.params for option in parameter.opts]
