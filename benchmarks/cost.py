"""Time of the exact costs: closed forms, compared with building on the meta device and counting.

uv run python benchmarks/cost.py [--networks 40] [--searched 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of
from nas.networks.cost import Cost
from nas.spaces.space import load_space
from nas.spaces.yaml_format import names


def counted(architecture: Architecture) -> Cost:
    """Parameters and multiply-adds by building on the meta device and running PyTorch's FlopCounterMode."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = build(architecture).eval()
        image = torch.empty(1, architecture.channels, architecture.resolution, architecture.resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return Cost(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--searched", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    print(f"torch {torch.__version__}, one thread, {args.networks} random networks a row; medians, seconds a network")
    print(
        f"{'space':>10} {'pixels':>6} {'formula, new blocks':>20} {'in a search':>12} {'build + count':>14} {'ratio':>7} {'searched/s':>10}"
    )
    for name in names():
        for resolution in (8, 32, 224):
            space = load_space(name, resolution=resolution)
            networks = [space.architecture(space.any(rng)) for _ in range(args.networks)]
            counted(networks[0])  # warm
            cold, slow = [], []
            for network in networks:
                times = []
                for work in (cost_of, counted):
                    begun = time.perf_counter()
                    result = work(network)
                    times.append(time.perf_counter() - begun)
                exact = cost_of(network)
                assert (result.params, result.macs) == (exact.params, exact.macs), network
                for row, seconds in zip((cold, slow), times, strict=True):
                    row.append(seconds)
            first, other = map(statistics.median, (cold, slow))
            choices = [space.any(rng) for _ in range(args.searched)]
            begun = time.perf_counter()
            for own in choices:
                space.cost(own)
            mean = (time.perf_counter() - begun) / len(choices)
            print(
                f"{name:>10} {resolution:>6} {first:>20.6f} {mean:>12.6f} {other:>14.4f} {other / first:>7.0f} {1 / mean:>10.0f}"
            )
    print(
        "'new blocks': the first cost of each network, most of whose blocks are new; the ratio uses this time. 'in a search': from "
        f"choices to cost, mean of {args.searched:,} random ones one after the other, whose stages recur."
    )
    print("Every formula's params and MACs were equal to the counted ones.")


if __name__ == "__main__":
    main()
