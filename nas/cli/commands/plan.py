"""`nas plan`: how many trials and epochs fit into the given hours, measured before a search starts."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nas.cli.commands.options import METRICS, GroupedCommand, budget_of, budget_options, examples, json_option, option
from nas.cli.commands.spaces import SET_HELP

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas plan --space resnext --dataset digits --hours 0.5",
        "nas plan --space resnext --dataset cifar10 --gpu-hours 20 --price-per-gpu-hour 2.5",
    ),
)
@option(
    "Space and budget",
    "--space",
    default="resnext",
    show_default=True,
    help="A shipped space or the path of a YAML file.",
)
@option("Space and budget", "--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP)
@budget_options
@option("Search", "--hours", type=float, help="Wall time that the search may take.")
@option("Search", "--gpu-hours", type=float, help="The same, summed over all GPUs.")
@option("Search", "--trials", type=int, help="Candidates to train.  [default: as many as the hours allow]")
@option(
    "Training",
    "--epochs",
    type=int,
    help="Epochs of each candidate.  [default: the most that leave time for enough trials]",
)
@option("Training", "--batch-size", type=int, help="Default: same as for `nas search`.")
@option(
    "Search",
    "--stopping",
    metavar="POLICY",
    default="none",
    show_default=True,
    help="Early stopping, same as for `nas search`.",
)
@option("Data", "--dataset", default="digits", show_default=True, help="Same as for `nas search`.")
@option("Data", "--resolution", type=int, help="Resize images to this many pixels.")
@option("Data", "--data-root", type=click.Path(path_type=Path), help="Folder of the published data sets.")
@option("Machine", "--workers", default=0, help="Trials at once. Default: as many as fit.")
@option("Machine", "--executor", default="ray", show_default=True, help="ray or local.")
@option("Machine", "--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@option("Output", "--price-per-gpu-hour", type=float, help="Price of a GPU, or without GPUs of this machine, per hour.")
@json_option
def plan(settings: tuple[str, ...], price_per_gpu_hour: float | None, as_json: bool, **options: Any) -> None:
    """Measure how fast networks of a space train on this machine, and compute how many trials and epochs fit into the hours.

    Three networks, from the cheapest to the most expensive of the space, are trained for seconds, in as many processes as
    trials will run at once. `nas search` with the same options follows the plan.
    """
    from nas.cli.commands.output import print_json, say
    from nas.errors import UsageError
    from nas.searching.preparation import plan as make_plan
    from nas.searching.request import Request
    from nas.spaces.yaml_format import parse_overrides

    if options["hours"] is None and options["gpu_hours"] is None:
        raise UsageError("how long may it take? --hours or --gpu-hours")
    if price_per_gpu_hour is not None and not 0 <= price_per_gpu_hour < math.inf:
        raise UsageError(f"--price-per-gpu-hour {price_per_gpu_hour:g}: a number from 0")
    budget = budget_of(*(options.pop(f"{end}_{metric}") for metric in METRICS for end in ("min", "max")))
    free = tuple(name for name in ("trials", "epochs") if options[name] is None)
    given = {name: value for name, value in options.items() if name not in free}
    request = Request(**given, free=free, overrides=parse_overrides(settings), budget=budget)
    _, settings_of_run, _ = make_plan(request, lambda text: click.echo(text, err=True))
    figures = dict(settings_of_run.plan)
    if price_per_gpu_hour is not None:
        device_hours = {name: figures[name] / 3600 * figures["devices"] for name in ("wall", "low", "high")}
        figures["price"] = {name: hours * price_per_gpu_hour for name, hours in device_hours.items()}
    if as_json:
        print_json(figures)
        return
    _print(figures)
    say(f"\n`{_search(click.get_current_context())}` follows it.")


def _print(figures: Mapping[str, Any]) -> None:
    from nas.cli.commands.output import say
    from nas.utils.text import counted, format_bytes, format_seconds

    kind = "GPU" if figures["gpus"] else "core"
    rates = ", ".join(
        f"{float(rate):,.0f} images/s at {int(macs):,} MACs" for macs, rate in figures["images_per_second"].items()
    )
    slots = figures["slots"]
    say(f"One of {slots} simultaneous trials on this machine's {kind}s trains {rates}.")
    say(f"A training step takes at most about {format_bytes(figures['memory'])} (predicted).")
    fewest, most = figures["fewest"], figures["most"]
    between = f" ({fewest} to {most})" if fewest < most else ""
    say(
        f"Plan: {counted(figures['trials'], 'trial')}{between} of {counted(figures['epochs'], 'epoch')}, {slots} at once."
    )
    if figures["rungs"]:
        rungs = ", ".join(map(str, figures["rungs"]))
        say(f"Rungs, after which trials are stopped: epochs {rungs}. The time that this saves is included.")
    wall, low, high, limit = (format_seconds(figures[name]) for name in ("wall", "low", "high", "seconds"))
    say(f"Wall time: {wall}, from {low} to {high} in 9 of 10 cases, of the given {limit}.")
    if "price" in figures:
        price = figures["price"]
        say(f"Price: {price['wall']:,.2f}, from {price['low']:,.2f} to {price['high']:,.2f}.")
    if figures["trials"] < 10:
        click.echo("note: so few trials learn little; give more time, fewer --epochs, or a cheaper space", err=True)


def _search(context: click.Context) -> str:
    """The search that follows the plan: with the space, the data and all other options of this command line."""
    words = ["nas", "search"]
    for parameter in context.command.params:
        name = parameter.name or ""
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name not in ("as_json", "price_per_gpu_hour") and (is_given or name in ("space", "dataset")):
            value = context.params[name]
            for each in value if isinstance(value, tuple) else (value,):
                words += [parameter.opts[0], f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join(words)
