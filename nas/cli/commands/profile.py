"""`nas profile`: the costs of networks, piece by piece. Only --latency builds the networks and imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nas.cli.commands.options import Batches, examples, json_option, misused
from nas.cli.commands.output import COSTS

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture
    from nas.networks.build import PieceCost
    from nas.networks.cost import Cost
    from nas.profiling.latency import Latency

BATCH = 128  # images of the training step whose memory is printed


@click.command(
    epilog=examples(
        "nas profile --list",
        "nas profile resnet50 resnext50_32x4d wide_resnet50_2",
        "nas profile results/my-run/front/01-trial12.yaml --resolution 64 --json",
        "nas profile resnet18 resnet34 --latency --batch 1,32 --threads 1",
    )
)
@click.argument("networks", metavar="NAME|CONFIG...", nargs=-1, required=True)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, parameter, asked: _list(ctx) if asked else None,
    help="List the included published networks, and exit.",
)
@click.option(
    "--resolution", type=click.IntRange(1, 1 << 14), help="Side of the images in pixels.  [default: the network's own]"
)
@click.option("--latency", is_flag=True, help="Measure the latency on a device instead (docs/latency.md).")
@click.option("--device", help="With --latency: cpu, cuda or cuda:N.  [default: cpu]")
@click.option("--batch", type=Batches(), help="With --latency: one or several batch sizes.  [default: 1]")
@click.option("--threads", type=click.IntRange(1, 4096), help="With --latency: cores of the CPU.  [default: all]")
@json_option
def profile(
    networks: tuple[str, ...],
    resolution: int | None,
    latency: bool,
    device: str | None,
    batch: tuple[int, ...] | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Exact params, multiply-adds and activations of networks, piece by piece.

    NAME is a published network (resnet50, resnext50_32x4d, wrn-28-10, ...), CONFIG the path of a YAML or JSON config. Several
    are printed side by side. Costs are per image, by closed forms; no network is built. For a dynamic network they are the
    worst case, and a line states the multiply-adds of an image for which every gate is closed. The memory of a training
    step is a prediction, not exact (docs/gpus.md).

    With --latency the networks are built and run on random images: the median of interleaved repeats and their interquartile
    range, in milliseconds per batch, fp32, in PyTorch's eager mode.
    """
    from nas.cli.commands.inputs import read_architecture
    from nas.cli.commands.output import MACS_NOTE, print_json, say
    from nas.networks.build import costs_by_piece

    read = [read_architecture(network) for network in networks]
    if latency:
        _latency(read, resolution, device or "cpu", batch or (1,), threads, as_json)
        return
    for name, value in (("device", device), ("batch", batch), ("threads", threads)):
        if value is not None:
            raise misused(f"--{name}: goes with --latency")
    profiles = [(architecture, costs_by_piece(architecture, resolution)) for architecture in read]
    if as_json:
        print_json([_as_json(architecture, rows, resolution) for architecture, rows in profiles])
        return
    if len(profiles) == 1:
        _print_one(*profiles[0], resolution)
    else:
        _print_several(profiles, resolution)
    say()
    for architecture, _ in profiles:
        say(f"{architecture.name + ': ' if len(profiles) > 1 else ''}{_memory(architecture, resolution)}")
    for architecture, _ in profiles:
        if note := _range(architecture, resolution):
            say(f"\n{architecture.name + ': ' if len(profiles) > 1 else ''}{note}")
    say(f"\n{MACS_NOTE}")


def _list(ctx: click.Context) -> None:
    from nas.cli.commands.output import say
    from nas.networks import zoo

    width = max(map(len, zoo.names()))
    for name in zoo.names():
        say(f"{name:<{width}}  {zoo.about(name)}")
    ctx.exit()


def _latency(
    read: list[Architecture],
    resolution: int | None,
    device: str,
    batches: tuple[int, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure all networks, interleaved, for each batch size, and print the latencies."""
    from nas.cli.commands.output import print_json, print_table, say
    from nas.profiling.latency import measure_all
    from nas.utils.text import format_ms

    measured: list[tuple[Architecture, Latency]] = []
    for batch in batches:
        latencies = measure_all(read, device=device, batch=batch, threads=threads, resolution=resolution)
        measured += zip(read, latencies, strict=True)
    if as_json:
        print_json([{"name": a.name, "digest": a.digest, **latency.to_dict()} for a, latency in measured])
        return
    energy = any(latency.energy_mj is not None for _, latency in measured)
    lines = [
        (
            architecture.name,
            f"{latency.resolution}",
            f"{latency.batch}",
            format_ms(latency.median_ms),
            format_ms(latency.spread_ms),
            f"{1000 * latency.batch / latency.median_ms:,.0f}",
            f"{latency.repeats}",
            f"{latency.disturbed}",
            *([] if not energy else ["" if latency.energy_mj is None else f"{latency.energy_mj:,.1f}"]),
        )
        for architecture, latency in measured
    ]
    columns = ("Network", ">px", ">Batch", ">Median", ">IQR", ">Images/s", ">Repeats", ">Left out")
    print_table((*columns, *([">mJ"] if energy else [])), lines)
    last, noise = measured[-1][1], max(latency.noise for _, latency in measured)
    say(
        f"\n{last.device}, {_plural(last.threads, 'thread')}, torch {last.torch}, fp32, eager. A reference network run between them "
        f"varied by {noise:.1%} (IQR over median): differences below that are noise."
    )
    say(
        "Energy is the GPU's mean power multiplied by the seconds of a batch."
        if energy
        else "Energy is left out: this device does not report its power."
    )


def _total(rows: list[PieceCost]) -> Cost:
    from nas.networks.cost import Cost

    return sum((row.cost for row in rows), Cost())


def _range(architecture: Architecture, resolution: int | None) -> str:
    """The range of a dynamic network's multiply-adds, in words; empty for a static network."""
    from nas.training.gates import expected_cost, gated_branches
    from nas.utils.text import format_count

    if not (gated := len(gated_branches(architecture, resolution))):
        return ""
    least, half, most = (expected_cost(architecture, share, resolution).macs for share in (0.0, 0.5, 1.0))
    return (
        f"{_plural(gated, 'block')} with a gate: {format_count(least)} MACs (all skipped) ... "
        f"{format_count(most)} (all executed, as counted above); {format_count(half)} with each open for half of the images."
    )


def _memory(architecture: Architecture, resolution: int | None) -> str:
    """Predicted memory of a training step, in both precisions."""
    from nas.training.recipe import PRECISIONS
    from nas.utils.text import format_bytes

    sizes = " or ".join(f"{format_bytes(_step(architecture, name, resolution))} in {name}" for name in PRECISIONS)
    return f"A training step on {BATCH} images takes about {sizes} (predicted)."


def _step(architecture: Architecture, precision: str, resolution: int | None) -> int:
    from nas.training.memory import training_memory

    return training_memory(architecture, BATCH, precision, resolution=resolution).total


def _as_json(architecture: Architecture, rows: list[PieceCost], resolution: int | None) -> dict[str, object]:
    from nas.training.gates import expected_cost
    from nas.training.recipe import PRECISIONS

    return {
        "name": architecture.name,
        "digest": architecture.digest,
        "resolution": resolution or architecture.resolution,
        "channels": architecture.channels,
        "classes": architecture.head.classes,
        **{metric: getattr(_total(rows), metric) for metric, _ in COSTS},
        "training_memory": {
            "batch": BATCH,
            **{f"{name}_bytes": _step(architecture, name, resolution) for name in PRECISIONS},
        },
        "least_macs": expected_cost(architecture, 0.0, resolution).macs,
        "pieces": [
            {"name": row.name, "output": list(row.output), **{metric: getattr(row.cost, metric) for metric, _ in COSTS}}
            for row in rows
        ],
    }


def _print_one(architecture: Architecture, rows: list[PieceCost], resolution: int | None) -> None:
    from nas.cli.commands.output import print_table, say
    from nas.networks.describe import describe

    total = _total(rows)
    say(f"{architecture.name}: {describe(architecture)}")
    say(
        f"{resolution or architecture.resolution} px, {_plural(architecture.channels, 'channel')}, "
        f"{_plural(architecture.head.classes, 'class', 'classes')}; {total.params:,} params, {total.macs:,} MACs\n"
    )
    lines = [(row.name, _shape(row), *_counts(row.cost), _share(row.cost.macs, total.macs)) for row in rows]
    lines.append(("total", "", *_counts(total), ""))
    print_table(("Piece", ">Output", ">Params", ">MACs", ">Activations", ">% of MACs"), lines, strong=(len(rows),))


def _print_several(profiles: list[tuple[Architecture, list[PieceCost]]], resolution: int | None) -> None:
    """One table per cost with a row per network, so that the width does not depend on the number of networks."""
    from nas.cli.commands.output import print_table, say
    from nas.utils.text import format_count

    stages = max(len(rows) for _, rows in profiles) - 2
    for metric, noun in COSTS:
        lines = []
        for architecture, rows in profiles:
            counts = {row.name: format_count(getattr(row.cost, metric)) for row in rows}
            pieces = [counts.get(piece, "") for piece in ("stem", *(f"stage{k}" for k in range(1, stages + 1)), "head")]
            lines.append((architecture.name, *pieces, format_count(getattr(_total(rows), metric))))
        columns = (noun, ">stem", *(f">stage{k}" for k in range(1, stages + 1)), ">head", ">total")
        print_table(columns, lines)
        say()
    sizes = {resolution or architecture.resolution for architecture, _ in profiles}
    if len(sizes) == 1:
        say(f"Images of {sizes.pop()} px.")
    else:
        sides = ", ".join(f"{architecture.name} {architecture.resolution}" for architecture, _ in profiles)
        say(f"Images have each network's own size, in px: {sides}. --resolution sets one size for all.")


def _shape(row: PieceCost) -> str:
    channels, height, width = row.output
    return f"{channels}" if row.name == "head" else f"{channels} × {height} × {width}"


def _counts(cost: Cost) -> tuple[str, str, str]:
    from nas.utils.text import format_count

    return format_count(cost.params), format_count(cost.macs), format_count(cost.activations)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f}"


def _plural(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
