"""Options and kinds of values that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nas.errors import UsageError
from nas.training.recipe import DECAYS, PRECISIONS

if TYPE_CHECKING:
    from nas.spaces.budget import Budget

F = TypeVar("F", bound=Callable[..., Any])

_PREFIXES = {"k": 3, "m": 6, "g": 9, "t": 12}
_LARGEST = 1 << 62
METRICS = ("params", "macs")  # the costs that have options for a budget


class Count(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases of click
    """A whole number: 2000000, 2e6, 2M, 500k, 1.5G."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().replace(",", "").replace("_", "")
        power = _PREFIXES.get(text[-1:].lower(), 0)
        try:
            number = Decimal(text[:-1] if power else text).scaleb(power)
        except (InvalidOperation, ValueError):
            number = Decimal("nan")
        if not number.is_finite() or not 0 <= number <= _LARGEST or number != number.to_integral_value():
            self.fail(f"{value!r} is not a count; write for example 2000000, 2e6, 2M, 500k or 1.5G", param, ctx)
        return int(number)


class Batches(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases of click
    """Numbers of images, as 1,32."""

    name = "count,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isascii() and word.isdigit() and 1 <= int(word[:9]) <= 1 << 16 for word in words):
            self.fail(f"{value!r}: whole numbers from 1 to 65,536, as 1,32", param, ctx)
        return tuple(dict.fromkeys(map(int, words)))


COUNT = Count()
RATE = click.FloatRange(min=0, min_open=True)  # a learning rate


def misused(message: str) -> click.UsageError:
    """The error of options that can't stand together; it names the command's --help."""
    return click.UsageError(message, click.get_current_context())


def examples(*lines: str) -> str:
    """An epilog for a command: the lines as they are, under "Examples:"."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for a script.")(command)


def skip_corrupt_option(command: F) -> F:
    about = "Leave out image files that can't be decoded, and list them. Default: they are an error."
    return click.option("--skip-corrupt", is_flag=True, help=about)(command)


def quiet_option(command: F) -> F:
    return click.option("--quiet", is_flag=True, help="No progress.")(command)


def seed_option(of: str) -> Callable[[F], F]:
    """--seed; of: what it is that of, as "weights, batches and split"."""
    seeds = click.IntRange(0, (1 << 31) - 1)
    return click.option("--seed", type=seeds, default=0, show_default=True, help=f"Of {of}.")


def data_options(command: F) -> F:
    """--dataset, --data-root, --download, --resolution and --skip-corrupt, for commands that train on one data set."""
    for option in (
        skip_corrupt_option,
        click.option("--resolution", type=int, help="Resize the images to this side, in pixels."),
        click.option("--download", is_flag=True, help="Download the data set if it isn't there."),
        click.option(
            "--data-root", metavar="DIR", type=click.Path(path_type=Path), help="Where published data sets lie."
        ),
        click.option(
            "--dataset", metavar="NAME", required=True, help="digits, cifar10, ..., imagefolder:PATH or npz:PATH."
        ),
    ):
        command = option(command)
    return command


def step_options(whose: str = "") -> Callable[[F], F]:
    """--batch-size and --lr; whose: the part of the network that the rate is that of, where others have others."""
    rate = f"Peak learning rate{f' of {whose}' if whose else ''}."

    def options(command: F) -> F:
        for option in (
            click.option("--lr", type=RATE, help=f"{rate}  [default: 0.1 at 128 images a step, in proportion]"),
            click.option("--batch-size", type=int, help="Images a step.  [default: 128, less for small data]"),
        ):
            command = option(command)
        return command

    return options


def threads_option(command: F) -> F:
    """--threads, for commands that train in this process: taken as it is read, before PyTorch is loaded."""
    about = "Cores to use on a CPU; of several commands at once, give each its share.  [default: all]"

    def take(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
        if value is None:
            return
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(value)
        if torch := sys.modules.get("torch"):  # loaded already, by who called the command from Python
            torch.set_num_threads(value)

    option = click.option(
        "--threads", metavar="N", type=click.IntRange(min=1), expose_value=False, callback=take, help=about
    )
    return option(command)


def device_options(command: F) -> F:
    """--device, --threads and --precision, for commands that train in this process."""
    for option in (
        click.option(
            "--precision",
            type=click.Choice(("auto", *PRECISIONS)),
            default="auto",
            show_default=True,
            help="auto: bf16 where the hardware has it.",
        ),
        threads_option,
        click.option(
            "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."
        ),
    ):
        command = option(command)
    return command


def stream_options(command: F) -> F:
    """--stream and --workers: images that are decoded while a network trains."""
    for option in (
        click.option(
            "--workers",
            metavar="N",
            type=click.IntRange(min=0),
            help="With --stream, processes that decode.  [default: one a core]",
        ),
        click.option(
            "--stream",
            is_flag=True,
            help="Decode the files of imagefolder:PATH anew in each epoch, with ImageNet's crops: for large data.",
        ),
    ):
        command = option(command)
    return command


def recipe_options(command: F) -> F:
    """--decay, --ema, --cutout and --randaugment: what of the recipe may be chosen, as keywords of `Recipe.of`."""
    for option in (
        click.option(
            "--randaugment",
            type=click.IntRange(0, 30),
            default=0,
            help="Light RandAugment of this magnitude, as 9.  [default: none]",
        ),
        click.option(
            "--cutout",
            type=click.IntRange(min=0),
            default=0,
            help="Cut a square of so many pixels, up to half of the side, out of each training image.  [default: none]",
        ),
        click.option(
            "--ema",
            type=float,
            default=0.0,
            help="Keep the moving average of the weights, with this decay, as 0.999; lower in the first steps.  [default: none]",
        ),
        click.option(
            "--decay",
            type=click.Choice(DECAYS),
            default=DECAYS[0],
            show_default=True,
            help="Weight decay of all parameters, or not of norms, biases and scales.",
        ),
    ):
        command = option(command)
    return command


def one_argument(name: str, metavar: str, several: str = "") -> Callable[[F], F]:
    """An argument of which there must be one; given more, the command says so, and what `several` are for."""

    def one(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> str:
        if len(given) == 1:
            return given[0]
        more = f"; {several}" if several else ""
        raise click.UsageError(
            f"{ctx.info_name} takes one {metavar}, and got {len(given)}: {', '.join(given)}{more}", ctx
        )

    return click.argument(name, metavar=metavar, nargs=-1, required=True, callback=one)


def run_argument(command: F) -> F:
    return click.argument("run", metavar="RUN", type=click.Path(path_type=Path))(command)


def budget_options(command: F) -> F:
    """--min-params, --max-params, --min-macs and --max-macs; `budget_of` makes a Budget of their values."""
    for metric, noun in reversed(list(zip(METRICS, ("parameters", "multiply-adds of an image"), strict=True))):
        for end, word in (("max", "most"), ("min", "fewest")):
            about = f"The {word} {noun} a network may have (2e6, 2M, 500k)."
            command = click.option(f"--{end}-{metric}", type=COUNT, metavar="COUNT", help=about)(command)
    return command


def budget_of(min_params: int | None, max_params: int | None, min_macs: int | None, max_macs: int | None) -> Budget:
    """The budget that the four options say; UsageError where a lower bound is above its upper bound."""
    from nas.spaces.budget import Budget

    bounds: dict[str, tuple[float | None, float | None]] = {}
    for metric, low, high in (("params", min_params, max_params), ("macs", min_macs, max_macs)):
        if low is not None or high is not None:
            bounds[metric] = (low, high)
    return Budget(bounds)


class GpuShare(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A number of GPUs, or "auto"."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        try:
            return value if value == "auto" else float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor auto", param, ctx)


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A duration, as 30m, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from nas.utils.text import parse_seconds

        try:
            return value if isinstance(value, float) else parse_seconds(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def going_on_options(command: F) -> F:
    """Of commands that go on with a run: in place of its settings, how and where it trains, and where its data and study lie now."""
    for option in reversed(
        (
            click.option(
                "--workers", type=int, help="Trainings at once, in place of the run's setting; 0: as many as fit."
            ),
            click.option("--gpus-per-trial", type=GpuShare(), help="In place of the run's setting; a number or auto."),
            click.option("--cpus-per-trial", type=float, help="In place of the run's setting."),
            click.option("--address", help="Of a running Ray cluster, in place of the run's setting."),
            click.option(
                "--storage", metavar="URL", help="The whole URL of the run's database, whose password it does not keep."
            ),
            click.option(
                "--trial-timeout", type=Seconds(), metavar="30m|2h|...", help="In place of the run's setting."
            ),
            click.option("--executor", type=click.Choice(["ray", "local"]), help="In place of the run's setting."),
            click.option(
                "--dataset", help="Where the run's data lie now, if they were moved: imagefolder:PATH or npz:PATH."
            ),
            click.option("--download", is_flag=True, help="Download the data set if it is no longer there."),
        )
    ):
        command = option(command)
    return command
