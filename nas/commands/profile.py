"""`nas profile`: what a network costs, piece by piece, several side by side. Nothing is built; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import examples, json_option

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.cost import Cost
    from nas.network import PieceCost

BATCH = 128  # images of the training step whose memory is shown
METRICS = (("params", "params"), ("macs", "MACs"), ("activations", "activations"))


@click.command(
    epilog=examples(
        "nas profile resnet50",
        "nas profile resnet50 resnext50_32x4d wide_resnet50_2",
        "nas profile results/my-run/front/01-trial12.yaml --resolution 64 --json",
    )
)
@click.argument("networks", metavar="NAME|CONFIG...", nargs=-1, required=True)
@click.option(
    "--resolution", type=click.IntRange(1, 1 << 14), help="Side of the images in pixels.  [default: the network's own]"
)
@json_option
def profile(networks: tuple[str, ...], resolution: int | None, as_json: bool) -> None:
    """Exact params, multiply-adds and activations of networks, piece by piece.

    NAME is a published network (resnet50, resnext50_32x4d, wrn-28-10, ...), CONFIG the path of a YAML or JSON config. Several
    are set side by side. Costs are per image, by closed forms; nothing is built. Of a dynamic network they are the worst
    case, and a line says how few multiply-adds an image takes for which every gate is closed. The memory that a training
    step takes is predicted, not exact (docs/gpus.md).
    """
    from nas.commands.inputs import read_architecture
    from nas.commands.output import MACS_NOTE, print_json, say
    from nas.network import costs_by_piece

    read = [read_architecture(network) for network in networks]
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


def _total(rows: list[PieceCost]) -> Cost:
    from nas.cost import Cost

    return sum((row.cost for row in rows), Cost())


def _range(architecture: Architecture, resolution: int | None) -> str:
    """From where to where a dynamic network's multiply-adds go; empty for a static one."""
    from nas.dynamic import expected_cost, gated_branches
    from nas.text import format_count

    if not (gated := len(gated_branches(architecture, resolution))):
        return ""
    least, half, most = (expected_cost(architecture, share, resolution).macs for share in (0.0, 0.5, 1.0))
    return (
        f"{_plural(gated, 'block')} with a gate: {format_count(least)} MACs (all skipped) ... "
        f"{format_count(most)} (all executed, as counted above); {format_count(half)} with each open for half of the images."
    )


def _memory(architecture: Architecture, resolution: int | None) -> str:
    """Predicted memory of a training step, in both precisions."""
    from nas.recipe import PRECISIONS
    from nas.text import format_bytes

    said = " or ".join(f"{format_bytes(_step(architecture, name, resolution))} in {name}" for name in PRECISIONS)
    return f"A training step on {BATCH} images takes about {said} (predicted)."


def _step(architecture: Architecture, precision: str, resolution: int | None) -> int:
    from nas.memory import training_memory

    return training_memory(architecture, BATCH, precision, resolution=resolution).total


def _as_json(architecture: Architecture, rows: list[PieceCost], resolution: int | None) -> dict[str, Any]:
    from nas.dynamic import expected_cost
    from nas.recipe import PRECISIONS

    return {
        "name": architecture.name,
        "digest": architecture.digest,
        "resolution": resolution or architecture.resolution,
        "channels": architecture.channels,
        "classes": architecture.head.classes,
        **{metric: getattr(_total(rows), metric) for metric, _ in METRICS},
        "training_memory": {
            "batch": BATCH,
            **{f"{name}_bytes": _step(architecture, name, resolution) for name in PRECISIONS},
        },
        "least_macs": expected_cost(architecture, 0.0, resolution).macs,
        "pieces": [
            {
                "name": row.name,
                "output": list(row.output),
                **{metric: getattr(row.cost, metric) for metric, _ in METRICS},
            }
            for row in rows
        ],
    }


def _print_one(architecture: Architecture, rows: list[PieceCost], resolution: int | None) -> None:
    from nas.commands.output import print_table, say
    from nas.text import describe

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
    """One table a cost, a row a network, so that any number of networks fits the width."""
    from nas.commands.output import print_table, say
    from nas.text import format_count

    stages = max(len(rows) for _, rows in profiles) - 2
    for metric, noun in METRICS:
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
        own = ", ".join(f"{architecture.name} {architecture.resolution}" for architecture, _ in profiles)
        say(f"Images of each network's own size, in px: {own}. --resolution sets one for all.")


def _shape(row: PieceCost) -> str:
    channels, height, width = row.output
    return f"{channels}" if row.name == "head" else f"{channels} × {height} × {width}"


def _counts(cost: Cost) -> tuple[str, str, str]:
    from nas.text import format_count

    return format_count(cost.params), format_count(cost.macs), format_count(cost.activations)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f}"


def _plural(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
