"""Options that several commands share, the types of their values, and a --help with headings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import click

from nas.errors import UsageError
from nas.training.recipe import DECAYS, PRECISIONS

if TYPE_CHECKING:
    from nas.spaces.budget import Budget

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Heading: TypeAlias = Literal[
    "Space and budget",
    "Fine-tuning",
    "Search",
    "Latency",
    "Front",
    "Networks",
    "Factors",
    "Cost",
    "Table",
    "Studies",
    "Data",
    "Training",
    "Machine",
    "Output",
]
OTHER = "Other"  # the heading of --help and --import, which all commands have

_PREFIXES = {"k": 3, "m": 6, "g": 9, "t": 12}
_LARGEST = 1 << 62
METRICS = ("params", "macs")  # the costs that have options for a budget


# -- help with headings ------------------------------------------------------------------------------------------------


class Option(click.Option):
    """An option that the help of a `GroupedCommand` lists under a heading."""

    def __init__(self, *arguments: Any, heading: Heading, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command with many options: --help lists them under headings, in the order in which the headings first occur."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                heading = parameter.heading if isinstance(parameter, Option) else OTHER
                sections.setdefault(heading, []).append(record)
        for heading in sorted(sections, key=lambda heading: heading == OTHER):
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


def option(heading: Heading, *names: str, **settings: Any) -> Callable[[F], F]:
    """`click.option` with a heading."""
    return click.option(*names, cls=Option, heading=heading, **settings)


def in_order(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator that adds several options, which --help lists in this order."""

    def add(command: F) -> F:
        for decorate in reversed(decorators):
            command = decorate(command)
        return command

    return add


def pop_options(kind: type[T], options: dict[str, Any]) -> T:
    """An instance of the dataclass `kind`; the values of its fields are removed from `options`."""
    return kind(**{field.name: options.pop(field.name) for field in fields(kind)})  # type: ignore[arg-type]


def misused(message: str) -> click.UsageError:
    """The error for options that exclude each other; it refers to the command's --help."""
    return click.UsageError(message, click.get_current_context())


def examples(*lines: str) -> str:
    """A command's epilog: the lines, unchanged, under "Examples:"."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


# -- types of values ---------------------------------------------------------------------------------------------------


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
    """Batch sizes, for example 1,32."""

    name = "count,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isascii() and word.isdigit() and 1 <= int(word[:9]) <= 1 << 16 for word in words):
            self.fail(f"{value!r}: whole numbers from 1 to 65,536, as 1,32", param, ctx)
        return tuple(dict.fromkeys(map(int, words)))


class GpuShare(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A number of GPUs, or "auto"."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        try:
            return value if value == "auto" else float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor auto", param, ctx)


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A duration, for example 30m, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from nas.utils.text import parse_seconds

        try:
            return value if isinstance(value, float) else parse_seconds(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


COUNT = Count()
RATE = click.FloatRange(min=0, min_open=True)  # a learning rate


# -- arguments ---------------------------------------------------------------------------------------------------------


def one_argument(name: str, metavar: str, several: str = "") -> Callable[[F], F]:
    """An argument that is given exactly once. If it is given more often, the error says what to do instead: `several`."""

    def one(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> str:
        if len(given) == 1:
            return given[0]
        more = f"; {several}" if several else ""
        raise click.UsageError(
            f"{ctx.info_name} takes one {metavar}, and got {len(given)}: {', '.join(given)}{more}", ctx
        )

    return click.argument(name, metavar=metavar, nargs=-1, required=True, callback=one)


run_argument = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))


# -- options -----------------------------------------------------------------------------------------------------------

json_option = option("Output", "--json", "as_json", is_flag=True, help="Print JSON, for a script.")
quiet_option = option("Output", "--quiet", is_flag=True, help="No progress.")
skip_corrupt_option = option(
    "Data",
    "--skip-corrupt",
    is_flag=True,
    help="Leave out image files that can't be decoded, and list them. Default: they are an error.",
)


def seed_option(of: str, heading: Heading = "Training") -> Callable[[F], F]:
    """--seed; of: what the seed determines, for example "weights, batches and split"."""
    seeds = click.IntRange(0, (1 << 31) - 1)
    return option(heading, "--seed", type=seeds, default=0, show_default=True, help=f"Seed of {of}.")


@dataclass(frozen=True, slots=True)
class DataOptions:
    """The values of `data_options`."""

    dataset: str
    data_root: Path | None
    download: bool
    resolution: int | None
    skip_corrupt: bool


# For commands that train on one data set.
data_options = in_order(
    option(
        "Data", "--dataset", metavar="NAME", required=True, help="digits, cifar10, ..., imagefolder:PATH or npz:PATH."
    ),
    option(
        "Data", "--data-root", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the published data sets."
    ),
    option("Data", "--download", is_flag=True, help="Download the data set if it isn't there."),
    option("Data", "--resolution", type=int, help="Resize the images to this side, in pixels."),
    skip_corrupt_option,
)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The values of `stream_options`."""

    stream: bool
    workers: int | None


# Images that are decoded while a network trains.
stream_options = in_order(
    option(
        "Data",
        "--stream",
        is_flag=True,
        help="Decode the files of imagefolder:PATH again in each epoch, with ImageNet's crops: for large data.",
    ),
    option(
        "Data",
        "--workers",
        metavar="N",
        type=click.IntRange(min=0),
        help="With --stream: number of processes that decode.  [default: one per core]",
    ),
)


def step_options(part: str = "") -> Callable[[F], F]:
    """--batch-size and --lr; part: the part of the network with this learning rate, if other parts have other rates."""
    rate = f"Peak learning rate{f' of {part}' if part else ''}."
    return in_order(
        option("Training", "--batch-size", type=int, help="Images per step.  [default: 128, less for small data]"),
        option(
            "Training",
            "--lr",
            type=RATE,
            help=f"{rate}  [default: 0.1 for 128 images a step, in proportion to the images]",
        ),
    )


# Keywords of `Recipe.of`.
recipe_options = in_order(
    option(
        "Training",
        "--decay",
        type=click.Choice(DECAYS),
        default=DECAYS[0],
        show_default=True,
        help="Apply weight decay to all parameters, or to all but norms, biases and scales.",
    ),
    option(
        "Training",
        "--ema",
        type=float,
        default=0.0,
        help="Keep a moving average of the weights, with this decay, for example 0.999; lower in the first steps.  [default: none]",
    ),
    option(
        "Training",
        "--cutout",
        type=click.IntRange(min=0),
        default=0,
        help="Cut a square with this side, in pixels, at most half of the image's, out of each training image.  [default: none]",
    ),
    option(
        "Training",
        "--randaugment",
        type=click.IntRange(0, 30),
        default=0,
        help="Light RandAugment of this magnitude, for example 9.  [default: none]",
    ),
)


def _set_threads(ctx: click.Context, param: click.Parameter, threads: int | None) -> None:
    if threads is None:
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):  # loaded already if the command was called from Python
        torch.set_num_threads(threads)


# For commands that train in this process. It takes effect while options are read, before PyTorch is loaded.
threads_option = option(
    "Machine",
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    expose_value=False,
    callback=_set_threads,
    help="CPU cores to use; if several commands run at once, give each its share.  [default: all]",
)
# For commands that train in this process.
device_options = in_order(
    option(
        "Machine", "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."
    ),
    threads_option,
    option(
        "Machine",
        "--precision",
        type=click.Choice(("auto", *PRECISIONS)),
        default="auto",
        show_default=True,
        help="auto: bf16 where the hardware has it.",
    ),
)
# `budget_of` makes a Budget of their values.
budget_options = in_order(
    *(
        option(
            "Space and budget",
            f"--{end}-{metric}",
            type=COUNT,
            metavar="COUNT",
            help=f"The {word} {noun} that a network may have (2e6, 2M, 500k).",
        )
        for metric, noun in zip(METRICS, ("parameters", "multiply-adds per image"), strict=True)
        for end, word in (("min", "fewest"), ("max", "most"))
    )
)


def budget_of(min_params: int | None, max_params: int | None, min_macs: int | None, max_macs: int | None) -> Budget:
    """The budget of the four options; UsageError if a lower bound is above its upper bound."""
    from nas.spaces.budget import Budget

    bounds: dict[str, tuple[float | None, float | None]] = {}
    for metric, low, high in (("params", min_params, max_params), ("macs", min_macs, max_macs)):
        if low is not None or high is not None:
            bounds[metric] = (low, high)
    return Budget(bounds)


# For commands that continue a run: they replace the run's settings on how and where it trains, and name the present place
# of its data and its study.
continuing_options = in_order(
    option(
        "Machine",
        "--workers",
        type=int,
        help="Number of trainings at once, instead of the run's setting; 0: as many as fit.",
    ),
    option("Machine", "--gpus-per-trial", type=GpuShare(), help="Instead of the run's setting; a number or auto."),
    option("Machine", "--cpus-per-trial", type=float, help="Instead of the run's setting."),
    option("Machine", "--address", help="Address of a running Ray cluster, instead of the run's setting."),
    option(
        "Machine",
        "--storage",
        metavar="URL",
        help="The whole URL of the run's database; the run doesn't keep its password.",
    ),
    option("Machine", "--trial-timeout", type=Seconds(), metavar="30m|2h|...", help="Instead of the run's setting."),
    option("Machine", "--executor", type=click.Choice(["ray", "local"]), help="Instead of the run's setting."),
    option(
        "Data", "--dataset", help="Present place of the run's data, if they were moved: imagefolder:PATH or npz:PATH."
    ),
    option("Data", "--download", is_flag=True, help="Download the data set if it is no longer there."),
)
