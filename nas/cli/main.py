"""The command line: `nas COMMAND ...`. Prints errors in one line, without a traceback, and sets the exit status.

0: done. 1: the work failed. 2: bad usage. 130: interrupted. `NAS_DEBUG=1` also prints the traceback.
"""

from __future__ import annotations

import errno
import importlib
import keyword
import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from nas.cli import streams
from nas.errors import NasError, UsageError
from nas.utils.registry import did_you_mean
from nas.utils.text import printable
from nas.utils.versions import VERSION

# Name, module with the click command of that name, one line of help. The help is repeated here so that `nas --help` imports
# none of the modules.
COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("search", "nas.cli.commands.search", "Search a space for the networks that are best on your images."),
    ("resume", "nas.cli.commands.search", "Continue a run that was interrupted."),
    ("confirm", "nas.cli.commands.confirm", "Train a run's front again from further seeds; rank by means."),
    ("spaces", "nas.cli.commands.spaces", "List the search spaces, or describe one."),
    ("profile", "nas.cli.commands.profile", "Exact params, MACs and activations of networks, piece by piece."),
    ("plan", "nas.cli.commands.plan", "How many trials fit into the given hours, and their cost."),
    ("front", "nas.cli.commands.front", "The Pareto front of a run."),
    ("report", "nas.cli.commands.report", "A run, or several, as one page; also images, CSV, JSON, Markdown."),
    ("watch", "nas.cli.commands.watch", "A run's page, updated live, for the browser on this machine."),
    ("refine", "nas.cli.commands.refine", "A narrower space from the results of a run."),
    ("export", "nas.cli.commands.export", "Write the networks of a run's front as configs."),
    ("import", "nas.cli.commands.import_", "Networks of pycls, timm, OFA and others, as configs."),
    ("train", "nas.cli.commands.train", "Train a config with the full recipe and test it once."),
    ("finetune", "nas.cli.commands.finetune", "Fine-tune a network, or a run's front, on other images."),
    ("scale", "nas.cli.commands.scale", "Make a network larger or smaller, by factors or to meet a cost."),
    ("compare", "nas.cli.commands.compare", "Train networks by one recipe; plot their errors and gradients."),
    ("doctor", "nas.cli.commands.doctor", "Check a run's folder, or this machine; repair what is possible."),
    ("bench", "nas.cli.commands.bench", "Compare samplers on a table of trained networks."),
)

INTERRUPTED = 130
PRINTING = {"front", "spaces", "profile", "plan", "doctor"}  # commands that write no files
EITHER = {"bench", "scale", "import", "refine"}  # commands that print, or write files with --out
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # as in nas.utils.files, whose import would slow down `nas --help`
FIRST_SPEAKS_SECONDS = 30  # time for the first of the processes that train together to report an error


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _, _ in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for name, module, _ in COMMANDS:
            if name == cmd_name:
                attribute = f"{name}_" if keyword.iskeyword(name) else name
                command: click.Command = getattr(importlib.import_module(module), attribute)
                return _with_import_option(command)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            raise click.UsageError(
                f"no command {args[0]!r}{did_you_mean(args[0], names)}; known: {', '.join(names)}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, _, about in COMMANDS])

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any
    ) -> NoReturn:
        """Run a command and exit; if the command returns a number, it is the exit status."""
        extra["standalone_mode"] = False
        try:
            status = super().main(args, prog_name or "nas", *rest, **extra)
            sys.stdout.flush()  # a closed pipe raises here, not while Python shuts down
            if (failure := streams.failure()) is not None:
                status = _after_lost_output(failure, sys.argv[1:] if args is None else args, status)
        except BrokenPipeError:
            status = 1
        except click.UsageError as error:
            hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
            status = _fail(f"{_one_line(error.format_message()).rstrip('.')}{hint}", error.exit_code)
        except click.ClickException as error:
            status = _fail(_one_line(error.format_message()), error.exit_code)
        except UsageError as error:
            status = _fail(str(error), 2)
        except NasError as error:
            status = _fail(str(error), 1) if not _stopped(error) else _interrupted(str(error))
        except ImportError as error:
            if (error.name or "nas").partition(".")[0] == "nas":  # an error of this package, not of a library
                raise
            advice = "`nas doctor` checks this installation"
            status = _fail(f"{error.name} can't be imported: {_one_line(str(error))}; {advice}", 1)
        except OSError as error:
            if error.filename is not None:  # a folder that can't be read
                status = _fail(f"{os.fsdecode(error.filename)}: {error.strerror or error}", 1)
            elif error.errno in FULL:  # standard output; errors of files have a file name
                status = _fail(f"the output can't be written: {error.strerror}", 1)
            else:
                raise
        except (click.Abort, KeyboardInterrupt) as error:
            # A command that can be continued raises KeyboardInterrupt with a message, which click wraps.
            cause = error.__cause__ if isinstance(error, click.Abort) else error
            status = _interrupted(str(cause or ""))
        _flush_or_discard()
        sys.exit(status if isinstance(status, int) else 0)


def _after_lost_output(error: OSError, words: Sequence[str], status: Any) -> Any:
    """Report that a finished command's output could not be written, and return the exit status.

    It is 1 if the command writes no files, or if a script reads its output (--json); else `status`.
    """
    quiet = isinstance(error, BrokenPipeError)  # the reader closed the pipe on purpose
    name = next((word for word in words if not word.startswith("-")), "")
    written = any(word == "--out" or word.startswith("--out=") for word in words)
    if "--json" in words or name in PRINTING or not name or (name in EITHER and not written):
        return 1 if quiet else _fail(f"the output can't be written: {error.strerror or error}", 1)
    if not quiet:
        click.echo(f"note: the output can't be written: {error.strerror or error}; the files are whole", err=True)
    return status


def _with_import_option(command: click.Command) -> click.Command:
    """The command with the option --import: modules of the user, imported before the other options are read."""

    def load_modules(ctx: click.Context, param: click.Parameter, modules: tuple[str, ...]) -> None:
        if modules:
            from nas.utils.extensions import load

            load(modules)

    if not any(param.name == "imports" for param in command.params):
        about = "Import a module (a name, or a .py file) that registers your blocks, data sets or samplers; may be repeated."
        options: dict[str, Any] = {"multiple": True, "is_eager": True, "expose_value": False, "callback": load_modules}
        command.params.append(click.Option(["--import", "imports"], metavar="MODULE", help=about, **options))
    return command


def _flush_or_discard() -> None:
    """Flush standard output, or discard what can't be written: otherwise Python reports the error again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    if os.environ.get("NAS_DEBUG"):
        traceback.print_exc()
    if status == 2 and os.environ.get("RANK", "0") != "0":
        # An error of usage occurs in all processes that train together, and the first one reports it. torchrun then ends the
        # others; a process that is still running after this time has an error that the first one doesn't have.
        time.sleep(FIRST_SPEAKS_SECONDS)
    click.echo(f"error: {printable(message)}", err=True)
    return status


def _stopped(error: NasError) -> bool:
    """Whether the user stopped a search."""
    from nas.errors import Interrupted

    return isinstance(error, Interrupted)


def _interrupted(message: str) -> int:
    click.echo(printable(message) or "interrupted", err=True)
    return INTERRUPTED


def _one_line(text: str) -> str:
    return " ".join(text.split())


@click.group(
    name="nas",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nExamples:\n  nas search --space resnext --trials 200\n  nas spaces resnext --max-params 2M\n  nas profile resnet50",
)
@click.version_option(VERSION, prog_name="nas")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Neural architecture search over residual networks: exact costs, really trained, honestly ranked."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """The console script."""
    streams.make_safe()
    try:
        cli.main()
    except SystemExit as end:
        from nas.training.distributed import leave, started_together

        if started_together():
            leave(end.code)
        raise


if __name__ == "__main__":
    main()
