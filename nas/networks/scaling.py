"""Scaling of depth, width and resolution together: a network made larger or smaller in one step.

Compound scaling: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", Tan & Le, ICML 2019. Uniform
and fast scaling: "Fast and Accurate Model Scaling", Dollár, Singh & Girshick, CVPR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from nas.errors import UsageError
from nas.networks.architecture import MAX_NAME, Architecture, Stage
from nas.networks.build import cost_of
from nas.networks.cost import Cost

DIVISOR = 8
LEAST, MOST = 1 / 64, 64.0  # of each factor
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # EfficientNet's, for phi = 1: depth, width, resolution
CLOSE = 0.99  # share of a target from which on the nearness to the method's ratios counts
LEEWAYS = (1.15, 1.5)  # how far a factor may lie beside the method's to meet a target; the wider only where needed
_ROUNDING = 1e-9  # relative; 1.1 x 10 is 11.000000000000002, which is no twelfth block


@dataclass(frozen=True, slots=True)
class Scaling:
    """Factors of depth, width and resolution, each from 1/64 to 64; `divisor` as in `scaled_width`."""

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0
    divisor: int = DIVISOR

    def __post_init__(self) -> None:
        for name in ("depth", "width", "resolution"):
            if not LEAST <= getattr(self, name) <= MOST:  # nor is NaN
                raise UsageError(f"{name}: a factor is from 1/64 to 64, not {getattr(self, name):g}")
        if self.divisor < 1:
            raise UsageError(f"divisor must be at least 1, not {self.divisor}")


@dataclass(frozen=True, slots=True)
class Method:
    """d = s^depth, w = s^width, r = s^resolution for s times the multiply-adds; depth + 2 width + 2 resolution = 1.

    Multiply-adds go as d w^2 r^2, in a network whose convolutions are large.
    """

    depth: float
    width: float
    resolution: float

    def scaling(self, times: float, divisor: int = DIVISOR) -> Scaling:
        """The scaling for about `times` the multiply-adds; UsageError where a factor leaves its limits."""
        if not 0 < times < math.inf:
            raise UsageError(f"a factor of multiply-adds is a finite number above 0, not {times:g}")
        return Scaling(times**self.depth, times**self.width, times**self.resolution, divisor)


def compound(alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> Method:
    """EfficientNet's d = alpha^phi, w = beta^phi, r = gamma^phi: `times` is (alpha beta^2 gamma^2)^phi, see `growth`."""
    whole = math.log(growth(alpha, beta, gamma))
    return Method(math.log(alpha) / whole, math.log(beta) / whole, math.log(gamma) / whole)


def growth(alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> float:
    """alpha beta^2 gamma^2: the factor of the multiply-adds at phi = 1, about 2 in the paper."""
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not 1 <= value <= MOST:
            raise UsageError(f"{name} must be from 1 to 64, not {value:g}")
    product = alpha * beta**2 * gamma**2
    if product <= 1:
        raise UsageError("alpha, beta and gamma are all 1, which scales nothing")
    return product


def phi_scaling(
    phi: float, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA, divisor: int = DIVISOR
) -> Scaling:
    """EfficientNet's scaling for the compound coefficient phi, which may be negative and broken."""
    product = growth(alpha, beta, gamma)
    most = math.log(MOST) / math.log(max(alpha, beta, gamma))
    if not abs(phi) <= most:
        raise UsageError(f"phi is from {-most:.4g} to {most:.4g} (factors from 1/64 to 64), not {phi:g}")
    return compound(alpha, beta, gamma).scaling(product**phi, divisor)


def towards_width(alpha: float) -> Method:
    """Dollár et al.'s d = s^((1 - alpha) / 2), w = s^(alpha / 2), r = s^((1 - alpha) / 4).

    `alpha` 1/3 grows all three alike (uniform), 0.8 mostly the width (fast): activations, and so the time on an accelerator,
    grow the least with the width.
    """
    return Method((1 - alpha) / 2, alpha / 2, (1 - alpha) / 4)


METHODS: Mapping[str, Method] = {
    "compound": compound(),
    "uniform": towards_width(1 / 3),
    "fast": towards_width(0.8),
    "width": Method(0.0, 0.5, 0.0),
    "depth": Method(1.0, 0.0, 0.0),
    "resolution": Method(0.0, 0.0, 0.5),
}

# Width, depth and pixels of the published EfficientNets, which aren't powers of the paper's coefficients.
EFFICIENTNETS: Mapping[str, tuple[float, float, int]] = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
}


def published(name: str, divisor: int = DIVISOR) -> Scaling:
    """The scaling that makes EfficientNet-b0 the published `name`, b0 to b7."""
    width, depth, pixels = EFFICIENTNETS[name]
    return Scaling(depth, width, pixels / EFFICIENTNETS["b0"][2], divisor)


def scaled_width(width: int, factor: float, divisor: int = DIVISOR) -> int:
    """factor x width to the nearest multiple of gcd(width, divisor), one more where that is below 0.9 of the exact value.

    A width that is a multiple of the divisor so scales as EfficientNet's and MobileNet's do; one that isn't stays as even
    as it was. The factor 1 changes no width, equal widths stay equal, and a larger factor never gives a narrower one.
    """
    unit, exact = math.gcd(width, divisor), width * factor
    nearest = max(unit, int(exact + unit / 2) // unit * unit)
    return nearest + unit if nearest < 0.9 * exact else nearest


def scaled_depth(depth: int, factor: float) -> int:
    """ceil(factor x depth)."""
    return math.ceil(depth * factor * (1 - _ROUNDING))


def scaled_resolution(pixels: int, factor: float) -> int:
    """The nearest whole number of pixels to factor x pixels, at least one."""
    return max(1, math.floor(pixels * factor + 0.5))


def scaled(architecture: Architecture, scaling: Scaling) -> Architecture:
    """The network with depth, width and resolution scaled; itself if that changes nothing.

    Stages get ceil(d x depth) blocks. Widths of stem, stages and an expanded head follow `scaled_width`, and so do the inner
    widths of grouped branches, whose cardinality stays: the group width scales with the width, as in Dollár et al. What is
    stated as a ratio (expansion, squeeze-excitation) stays that ratio. UsageError beyond the limits of a network.
    """

    def scale(width: int) -> int:
        return scaled_width(width, scaling.width, scaling.divisor)

    stages = []
    for number, stage in enumerate(architecture.stages):
        depth = scaled_depth(stage.depth, scaling.depth)
        if stage.depth == 1 and depth > 1:
            stage = _with_path(architecture, number)
        stages.append(replace(stage, branch=stage.branch.scaled(scale), depth=depth, width=scale(stage.width)))
    result = replace(
        architecture,
        stem=replace(architecture.stem, width=scale(architecture.stem.width)),
        stages=tuple(stages),
        head=architecture.head.scaled(scale),
        resolution=scaled_resolution(architecture.resolution, scaling.resolution),
    )
    if result.canonical() == architecture.canonical():
        return architecture
    return replace(result, name=_name(architecture.name, scaling, result.resolution))


def _with_path(architecture: Architecture, number: int) -> Stage:
    """A stage of one block as more blocks of it must be: with the path around that the one may not have.

    Where the shortcut is `matching`, a single block that changes the shape is a plain one, and its canonical form says so:
    what stood around it is lost. The nearest stage that has such shortcuts, the earlier of two, tells what it was.
    """
    stage = architecture.stages[number]
    if stage.merge.uses_shortcut:
        return stage
    others = [
        (abs(place - number), place, other)
        for place, other in enumerate(architecture.stages)
        if other.merge.uses_shortcut and other.shortcut.kind == "matching"
    ]
    if not others:
        return stage
    *_, other = min(others, key=lambda found: found[:2])
    return replace(stage, shortcut=other.shortcut, merge=other.merge)


def _name(name: str, scaling: Scaling, pixels: int) -> str:
    """`efficientnet_b0-d1.4-w1.2-300px`; no name stays none."""
    parts = [
        *([f"d{scaling.depth:.4g}"] if scaling.depth != 1 else []),
        *([f"w{scaling.width:.4g}"] if scaling.width != 1 else []),
        *([f"{pixels}px"] if scaling.resolution != 1 else []),
    ]
    tail = "".join(f"-{part}" for part in parts)
    return name[: MAX_NAME - len(tail)] + tail if name else ""


def fitted(
    architecture: Architecture, method: Method, targets: Mapping[str, int], divisor: int = DIVISOR
) -> tuple[Scaling, Architecture]:
    """The scaling whose costs come nearest to `targets` (params, macs) and exceed none of them, and the scaled network.

    Bisection gives the s at which the method's network just meets the targets. Blocks and channels come in steps, so that it
    may fall short; then each factor that the method changes at all may lie up to 15 % beside its value at s. Of the networks
    so found that reach 99 % of a target the one with the factors nearest to the method's is taken. If none does, factors may
    lie up to a half beside, and at last the network is taken that comes nearest to a target.

    UsageError, with what can be reached, where no scaling meets the targets or the largest has less.
    """
    for metric, target in targets.items():
        if target < 1:
            raise UsageError(f"a target of {metric} is at least 1, not {target}")
    if set(targets) == {"params"} and not (method.depth or method.width):
        raise UsageError("the resolution does not change params; a target for them takes another method")
    cost_of(architecture)  # what is wrong with the network itself is not a matter of scale
    return _Search(architecture, method, targets, divisor).best()


@dataclass(frozen=True, slots=True)
class _Search:
    """Networks on a method's curve, and beside it."""

    architecture: Architecture
    method: Method
    targets: Mapping[str, int]
    divisor: int

    def best(self) -> tuple[Scaling, Architecture]:
        centre = self.largest()
        found = [(self.share(centre), 0.0, centre)]
        for leeway in LEEWAYS:
            for scaling, deviation in self.beside(centre, math.log(leeway)):
                share = self.share(scaling)
                if share <= 1:
                    found.append((share, -deviation, scaling))
            if close := [(nearness, share, scaling) for share, nearness, scaling in found if share >= CLOSE]:
                scaling = max(close, key=lambda item: item[:2])[2]
                break
        else:
            scaling = max(found, key=lambda item: item[:2])[2]
        return scaling, scaled(self.architecture, scaling)

    def cost(self, scaling: Scaling) -> Cost:
        return cost_of(scaled(self.architecture, scaling))

    def share(self, scaling: Scaling) -> float:
        """The largest share of a target that the network has; infinite beyond the limits of a network."""
        try:
            cost = self.cost(scaling)
        except UsageError:
            return math.inf
        return max(float(getattr(cost, metric)) / target for metric, target in self.targets.items())

    def on_curve(self, x: float) -> Scaling:
        return self.method.scaling(math.exp(x), self.divisor)

    def largest(self) -> Scaling:
        """The scaling of the method's whose network just meets the targets."""
        end = math.log(MOST) / max(self.method.depth, self.method.width, self.method.resolution) * (1 - _ROUNDING)
        if self.share(self.on_curve(-end)) > 1:
            raise UsageError(f"no scaling meets {self._wanted()}: the smallest has {self._reached(-end)}")
        if self.share(self.on_curve(end)) <= 1:
            raise UsageError(f"{self._wanted()} is out of reach: the largest scaling has {self._reached(end)}")
        low, high = _bisect(lambda x: self.share(self.on_curve(x)) <= 1, -end, end)
        if math.isinf(self.share(self.on_curve(high))):
            raise UsageError(f"{self._wanted()} is out of reach: the largest network has {self._reached(low)}")
        return self.on_curve(low)

    def _wanted(self) -> str:
        return " and ".join(f"{target:,} {metric}" for metric, target in self.targets.items())

    def _reached(self, x: float) -> str:
        cost = self.cost(self.on_curve(x))
        return " and ".join(f"{getattr(cost, metric):,} {metric}" for metric in self.targets)

    def beside(self, centre: Scaling, leeway: float) -> Iterator[tuple[Scaling, float]]:
        """Scalings within `leeway` of `centre`, a logarithm, each with that of its largest deviation."""
        if not (self.method.width or self.method.resolution):
            return
        for depth, distance in self.depths(centre.depth, leeway):
            if (base := self.levelled(replace(centre, depth=depth), leeway)) is None:
                continue
            yield base, max(distance, _deviation(base, centre))
            if self.method.resolution and "macs" in self.targets:
                for scaling in self.refined(base, centre, leeway):
                    yield scaling, max(distance, _deviation(scaling, centre))

    def levelled(self, start: Scaling, leeway: float) -> Scaling | None:
        """`start` with width and resolution moved by the method's ratio until the targets are just met; None if too far."""
        width, resolution = self.method.width, self.method.resolution
        fastest = max(width, resolution)

        def moved(x: float) -> Scaling:
            return replace(
                start,
                width=_within(start.width * math.exp(x * width / fastest)),
                resolution=_within(start.resolution * math.exp(x * resolution / fastest)),
            )

        if self.share(moved(-leeway)) > 1:
            return None
        return moved(_bisect(lambda x: self.share(moved(x)) <= 1, -leeway, leeway)[0])

    def refined(self, base: Scaling, centre: Scaling, leeway: float) -> Iterator[Scaling]:
        """Somewhat narrower networks, each at the most pixels that meet the targets: pixels come in finer steps."""
        own = self.architecture.resolution
        highest = scaled_resolution(own, _within(centre.resolution * math.exp(leeway)))
        for step in range(12 if self.method.width else 1):
            narrow = replace(base, width=_within(base.width * (1 - 0.01 * step)))
            low, high = scaled_resolution(own, base.resolution), highest + 1
            if self.share(narrow) > 1:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                fits = self.share(replace(narrow, resolution=_within(middle / own))) <= 1
                low, high = (middle, high) if fits else (low, middle)
            yield replace(narrow, resolution=_within(low / own))

    def depths(self, centre: float, leeway: float) -> Iterator[tuple[float, float]]:
        """Factors near `centre` that give different depths, each with the logarithm of its distance."""
        yield centre, 0.0
        if not self.method.depth:
            return
        least, most = _within(centre * math.exp(-leeway)), _within(centre * math.exp(leeway))
        # All factors up to k / depth give k blocks: at these the depth of a stage changes.
        steps = {
            count / stage.depth
            for stage in self.architecture.stages
            for count in range(math.ceil(least * stage.depth), math.ceil(most * stage.depth) + 1)
        }
        ordered = sorted(step for step in steps if LEAST <= step <= MOST)
        for lower, upper in zip([LEAST, *ordered], ordered, strict=False):
            if upper < centre and upper >= least:
                yield upper, math.log(centre / upper)
            elif centre <= lower <= most:
                yield upper, math.log(lower / centre)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """Two neighbouring numbers, `holds` true of the lower and false of the higher; `high` twice if it is true there."""
    if holds(high):
        return high, high
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high


def _within(factor: float) -> float:
    return min(max(factor, LEAST), MOST)


def _deviation(scaling: Scaling, centre: Scaling) -> float:
    pairs = ((scaling.width, centre.width), (scaling.resolution, centre.resolution))
    return max(abs(math.log(factor / other)) for factor, other in pairs)
