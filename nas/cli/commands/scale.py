"""`nas scale`: a network made larger or smaller in depth, width and resolution, by factors or to meet a cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.inputs import CONFIGS
from nas.cli.commands.options import (
    COUNT,
    METRICS,
    GroupedCommand,
    examples,
    json_option,
    misused,
    one_argument,
    option,
)
from nas.cli.commands.output import COSTS
from nas.errors import UsageError
from nas.networks.scaling import ALPHA, BETA, DIVISOR, EFFICIENTNETS, GAMMA, METHODS

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture, Stage
    from nas.networks.scaling import Scaling

SHORT = 0.95  # below this share of a target, a remark gives the reason


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `nas scale` that say how to scale."""

    phi: float | None
    alpha: float | None
    beta: float | None
    gamma: float | None
    depth: float | None
    width: float | None
    resolution: float | None
    pixels: int | None
    like: str | None
    times: float | None
    target_macs: int | None
    target_params: int | None
    how: str | None
    divisor: int

    @property
    def targets(self) -> dict[str, int]:
        """The costs to meet, by metric."""
        targets = zip(METRICS, (self.target_params, self.target_macs), strict=True)
        return {metric: target for metric, target in targets if target is not None}

    @property
    def growths(self) -> tuple[float, float, float]:
        """alpha, beta and gamma."""
        given = (self.alpha, self.beta, self.gamma)
        alpha, beta, gamma = (
            default if value is None else value for value, default in zip(given, (ALPHA, BETA, GAMMA), strict=True)
        )
        return alpha, beta, gamma

    def check(self) -> None:
        """UsageError unless exactly one way to scale is given, with options that belong to it."""
        factors = (self.depth, self.width, self.resolution, self.pixels)
        ways = {
            "--phi": self.phi is not None,
            "--depth/--width/--resolution/--pixels": any(factor is not None for factor in factors),
            "--as": self.like is not None,
            "--by": self.times is not None,
            "--target-macs/--target-params": bool(self.targets),
        }
        given = [way for way, is_given in ways.items() if is_given]
        if len(given) != 1:
            raise misused(f"{' and '.join(given)}: choose one" if given else f"choose how to scale: {', '.join(ways)}")
        free = given[0] in ("--by", "--target-macs/--target-params")
        compound = given[0] == "--phi" or (free and self.how in (None, "compound"))
        if self.how is not None and not free:
            raise misused(f"--how goes with --by or a target, not with {given[0]}")
        if any(value is not None for value in (self.alpha, self.beta, self.gamma)) and not compound:
            raise misused("--alpha, --beta and --gamma are those of compound scaling: --phi, or --how compound")
        if self.resolution is not None and self.pixels is not None:
            raise misused("--resolution and --pixels: choose one")

    def apply(self, before: Architecture) -> tuple[Scaling, Architecture]:
        """The scaling factors, and the scaled network."""
        from nas.networks.scaling import Scaling, compound, fitted, phi_scaling, published, scaled

        method = compound(*self.growths) if self.how in (None, "compound") else METHODS[self.how]
        if self.targets:
            return fitted(before, method, self.targets, self.divisor)
        if self.phi is not None:
            scaling = phi_scaling(self.phi, *self.growths, divisor=self.divisor)
        elif self.like is not None:
            scaling = published(self.like, self.divisor)
        elif self.times is not None:
            scaling = method.scaling(self.times, self.divisor)
        else:
            side = self.resolution if self.pixels is None else self.pixels / before.resolution
            factors = {"depth": self.depth, "width": self.width, "resolution": side}
            given = {name: factor for name, factor in factors.items() if factor is not None}
            scaling = Scaling(**given, divisor=self.divisor)
        return scaling, scaled(before, scaling)


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas scale resnet50 --phi 1 --out resnet50-large.yaml",
        "nas scale resnet50 --depth 1.4 --width 1.2 --pixels 288",
        "nas scale resnet50 --target-macs 8G --how fast --json",
        "nas scale config.yaml --target-params 500k --divisor 1 --yaml",
    ),
)
@one_argument("config", "CONFIG|NAME")
@option("Factors", "--phi", type=float, help="Compound coefficient: factors alpha^phi, beta^phi and gamma^phi.")
@option("Factors", "--alpha", type=float, help=f"Growth of the depth at phi 1.  [default: {ALPHA}]")
@option("Factors", "--beta", type=float, help=f"Growth of the width at phi 1.  [default: {BETA}]")
@option("Factors", "--gamma", type=float, help=f"Growth of the resolution at phi 1.  [default: {GAMMA}]")
@option("Factors", "--depth", type=float, help="Factor of the blocks of each stage, rounded up.")
@option("Factors", "--width", type=float, help="Factor of the channels.")
@option("Factors", "--resolution", type=float, help="Factor of the images' side.")
@option(
    "Factors", "--pixels", type=click.IntRange(1, 1 << 14), help="The images' side itself, instead of --resolution."
)
@option(
    "Factors",
    "--as",
    "like",
    type=click.Choice(list(EFFICIENTNETS)),
    help="Scale as this published EfficientNet is scaled from b0.",
)
@option(
    "Cost", "--by", "times", metavar="FACTOR", type=float, help="Multiply the multiply-adds by about FACTOR, see --how."
)
@option("Cost", "--target-macs", type=COUNT, metavar="COUNT", help="Come nearest to these multiply-adds, not above.")
@option("Cost", "--target-params", type=COUNT, metavar="COUNT", help="Come nearest to these parameters, not above.")
@option(
    "Cost", "--how", type=click.Choice(list(METHODS)), help="What grows with --by or a target.  [default: compound]"
)
@option(
    "Factors",
    "--divisor",
    type=click.IntRange(1, 1 << 10),
    default=DIVISOR,
    show_default=True,
    help="Widths that are multiples of it stay multiples of it; 1 for fine steps.",
)
@option(
    "Output",
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the config: FILE.yaml, or as JSON FILE.json.",
)
@option("Output", "--force", is_flag=True, help="Overwrite a FILE with other contents.")
@option("Output", "--yaml", "as_yaml", is_flag=True, help="Print the config, and nothing else.")
@json_option
def scale(config: str, out: Path | None, force: bool, as_yaml: bool, as_json: bool, **options: Any) -> None:
    """Make a network larger or smaller: depth, width and resolution together.

    CONFIG is the path of a YAML or JSON config, NAME a published network. Give one of: --phi; any of --depth, --width,
    --resolution (or --pixels); --as; --by; a target. Stages' widths that are multiples of 8 stay multiples of 8, no width
    falls more than 10 % below its exact value, and blocks are rounded up.

    \b
    --how:
      compound   EfficientNet's ratios, see --alpha, --beta and --gamma
      uniform    a third of the factor to each of depth, width, resolution
      fast       mostly width, for speed on accelerators
      width, depth, resolution   only this one
    """
    from nas.cli.commands.inputs import read_architecture
    from nas.cli.commands.output import write_texts
    from nas.interop.export import EXPORTERS
    from nas.networks.build import cost_of

    asked = Options(**options)
    asked.check()
    if as_yaml and as_json:
        raise misused("--yaml and --json: choose one")
    if out is not None:
        _check_file(out)
    before = read_architecture(config)
    cost_of(before)  # errors of the given network are reported as such, before it is scaled
    scaling, after = asked.apply(before)
    shares = {metric: getattr(cost_of(after), metric) / target for metric, target in asked.targets.items()}
    provenance = _provenance(before, scaling)
    if out is not None:
        write_texts({out: EXPORTERS[CONFIGS[out.suffix]](after, provenance)}, force)
    if as_yaml:
        click.echo(EXPORTERS["yaml"](after, provenance), nl=False)
    elif as_json:
        _print_json(before, after, scaling, shares, out)
    else:
        _print(before, after, scaling)
        _remark(shares, asked.divisor, after is before, out)


def _check_file(out: Path) -> None:
    """UsageError unless a config can be written to this file."""
    from nas.cli.commands.inputs import check_folder

    if out.suffix not in CONFIGS:
        raise UsageError(f"--out {out}: a config is a .yaml or a .json file")
    if out.is_dir():
        raise UsageError(f"--out {out}: a folder; name the file")
    check_folder(out.parent)


def _print_json(
    before: Architecture, after: Architecture, scaling: Scaling, shares: dict[str, float], out: Path | None
) -> None:
    from nas.cli.commands.output import print_json

    print_json(
        {
            "scaling": _factors(scaling),
            **({"target_shares": shares} if shares else {}),
            "before": _as_json(before),
            "after": _as_json(after),
            "architecture": after.to_dict(),
            **({"out": str(out)} if out is not None else {}),
        }
    )


def _factors(scaling: Scaling) -> dict[str, float]:
    return {name: getattr(scaling, name) for name in ("depth", "width", "resolution", "divisor")}


def _provenance(before: Architecture, scaling: Scaling) -> dict[str, object]:
    from nas.utils.versions import VERSION

    base = {"name": before.name, "digest": before.digest}
    return {"scaled_from": base, "scaling": _factors(scaling), "nas": VERSION}


def _as_json(architecture: Architecture) -> dict[str, object]:
    from nas.networks.build import cost_of

    cost = cost_of(architecture)
    return {
        "name": architecture.name,
        "digest": architecture.digest,
        "resolution": architecture.resolution,
        **{metric: getattr(cost, metric) for metric, _ in COSTS},
    }


def _print(before: Architecture, after: Architecture, scaling: Scaling) -> None:
    from nas.cli.commands.output import MACS_NOTE, print_table, say
    from nas.networks.build import cost_of
    from nas.networks.describe import describe
    from nas.utils.text import format_count

    say(f"{after.name}: {describe(after)}")
    say(
        f"depth × {scaling.depth:.4g}, width × {scaling.width:.4g}, resolution × {scaling.resolution:.4g}; "
        "stages as blocks × channels\n"
    )
    old, new = cost_of(before), cost_of(after)
    rows: list[tuple[str, ...]] = []
    for metric, noun in COSTS:
        had, has = getattr(old, metric), getattr(new, metric)
        rows.append((noun, format_count(had), format_count(has), f"{has / had:.3f}"))
    sides = before.resolution, after.resolution
    rows.append(("resolution", *(f"{side} px" for side in sides), f"{sides[1] / sides[0]:.3f}"))
    rows.append(("stem", str(before.stem.width), str(after.stem.width), ""))
    for number, stages in enumerate(zip(before.stages, after.stages, strict=True), 1):
        rows.append((f"stage{number}", *(_stage(stage) for stage in stages), ""))
    if "width" in before.head.options():
        rows.append(("head", *(str(end.to_dict()["width"]) for end in (before.head, after.head)), ""))
    print_table(("", ">Before", ">After", ">Factor"), rows)
    say(f"\n{MACS_NOTE}")


def _stage(stage: Stage) -> str:
    """`3 × 256 (32×4d)`: depth and width, then cardinality and group width if the block has them."""
    options = stage.branch.to_dict()
    groups = f" ({options['cardinality']}×{options['group_width']}d)" if "group_width" in options else ""
    return f"{stage.depth} × {stage.width}{groups}"


def _remark(shares: dict[str, float], divisor: int, same: bool, out: Path | None) -> None:
    from nas.cli.commands.output import note
    from nas.utils.text import format_percent, shown

    if same:
        note("Nothing changes: blocks and channels come in steps, and the factors are too near to 1 for a step.")
    if shares:
        met = (f"{format_percent(share)} % of the target of {dict(COSTS)[metric]}" for metric, share in shares.items())
        note("; ".join(met) + ".")
        if max(shares.values()) < SHORT:
            finer = "; --divisor 1 makes the steps of the widths finer" if divisor > 1 else ""
            note(f"Nothing nearer was found: blocks and channels come in steps{finer}.")
    if out is not None:
        click.echo(shown(out.absolute()))
    else:
        note("--out FILE writes the config, --yaml prints it.")
