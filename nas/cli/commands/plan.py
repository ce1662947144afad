"""`nas plan`: what a search would take in so many hours, before it is begun."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nas.cli.commands.options import METRICS, budget_of, budget_options, examples, json_option
from nas.cli.commands.spaces import SET_HELP


@click.command(
    epilog=examples(
        "nas plan --space resnext --dataset digits --hours 0.5",
        "nas plan --space resnext --dataset cifar10 --gpu-hours 20 --price-per-gpu-hour 2.5",
    )
)
@click.option("--space", default="resnext", show_default=True, help="A shipped space or the path of a YAML file.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP)
@click.option("--dataset", default="digits", show_default=True, help="As of `nas search`.")
@click.option("--hours", type=float, help="Wall time that the search may take.")
@click.option("--gpu-hours", type=float, help="The same over all GPUs together.")
@click.option("--trials", type=int, help="Candidates to train.  [default: as many as there is time for]")
@click.option("--epochs", type=int, help="Of each.  [default: the most that leaves time for enough trials]")
@click.option("--batch-size", type=int, help="Default: as of `nas search`.")
@click.option(
    "--stopping", metavar="POLICY", default="none", show_default=True, help="Early stopping, as of `nas search`."
)
@budget_options
@click.option("--workers", default=0, help="Trials at once. Default: as many as fit.")
@click.option("--executor", default="ray", show_default=True, help="ray or local.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--resolution", type=int, help="Resize images to this many pixels.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Where data sets lie.")
@click.option("--price-per-gpu-hour", type=float, help="Of a GPU; without GPUs, of this machine.")
@json_option
def plan(settings: tuple[str, ...], price_per_gpu_hour: float | None, as_json: bool, **options: Any) -> None:
    """Measure how fast networks of a space train here, and say what fits into the hours.

    Three networks, from the cheap end of the space to the dear one, are trained for seconds in as many processes as there will be
    trials at once. `nas search` with the same options follows the plan.
    """
    import sys

    from nas.cli.commands.output import print_json, say
    from nas.errors import UsageError
    from nas.searching.preparation import plan as planned
    from nas.searching.request import Request
    from nas.spaces.yaml_format import parse_overrides
    from nas.utils.text import counted, format_bytes, format_seconds

    if options["hours"] is None and options["gpu_hours"] is None:
        raise UsageError("how long may it take? --hours or --gpu-hours")
    if price_per_gpu_hour is not None and not 0 <= price_per_gpu_hour < math.inf:
        raise UsageError(f"--price-per-gpu-hour {price_per_gpu_hour:g}: a number from 0")
    budget = budget_of(*(options.pop(f"{end}_{metric}") for metric in METRICS for end in ("min", "max")))
    free = tuple(name for name in ("trials", "epochs") if options[name] is None)
    given = {name: value for name, value in options.items() if name not in free}
    request = Request(**given, free=free, overrides=parse_overrides(settings), budget=budget)
    _, made, _ = planned(request, lambda text: click.echo(text, err=True))
    found = dict(made.plan)
    if price_per_gpu_hour is not None:
        hours = {name: found[name] / 3600 * found["devices"] for name in ("wall", "low", "high")}
        found["price"] = {name: own * price_per_gpu_hour for name, own in hours.items()}
    if as_json:
        print_json(found)
        return
    kind = "GPU" if found["gpus"] else "core"
    rates = ", ".join(
        f"{float(rate):,.0f} images/s at {int(macs):,} MACs" for macs, rate in found["images_per_second"].items()
    )
    say(f"One of {found['slots']} trials at once on this machine's {kind}s trains {rates}.")
    say(f"A training step takes at most about {format_bytes(found['memory'])} (predicted).")
    between = f" ({found['fewest']} to {found['most']})" if found["fewest"] < found["most"] else ""
    say(
        f"Plan: {counted(found['trials'], 'trial')}{between} of {counted(found['epochs'], 'epoch')}, {found['slots']} at once."
    )
    if found["rungs"]:
        say(
            f"Rungs, behind which trials are stopped: epochs {', '.join(map(str, found['rungs']))}. What this saves is counted."
        )
    say(
        f"Wall time: {format_seconds(found['wall'])}, from {format_seconds(found['low'])} to {format_seconds(found['high'])} "
        f"in 9 of 10 cases, of {format_seconds(found['seconds'])} that are given."
    )
    if "price" in found:
        price = found["price"]
        say(f"Price: {price['wall']:,.2f}, from {price['low']:,.2f} to {price['high']:,.2f}.")
    if found["trials"] < 10:
        click.echo(
            "note: so few trials learn little; give more time, fewer --epochs, or a cheaper space", file=sys.stderr
        )
    say(f"\n`{_search(click.get_current_context())}` follows it.")


def _search(context: click.Context) -> str:
    """The search that follows the plan: with the space and the data, and all else that was said here."""
    words = ["nas", "search"]
    for option in context.command.params:
        name = option.name or ""
        said = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name not in ("as_json", "price_per_gpu_hour") and (said or name in ("space", "dataset")):
            value = context.params[name]
            for each in value if isinstance(value, tuple) else (value,):
                words += [option.opts[0], f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join(words)
