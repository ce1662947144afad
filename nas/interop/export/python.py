"""The format `python`: one readable stand-alone file, the network in plain PyTorch with only the blocks that it uses.

It has a class for each kind of block in use, one line for each stage, and copies of the parts of `nas.interop.export.parts` and
`nas.networks.blocks.plain_modules` that these need. Tensors have our names, so that `load_state_dict` takes our weights
unchanged; a subject's weights are written next to the file as safetensors. Registered blocks of other packages can be exported
too, if their layers and merges have a `source`; modules that these bring along are copied into the file.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nas.interop.export.block_source import BlockClass, block_classes
from nas.interop.export.formats import EXPORTERS, Exporter, NotExpressible, Provenance, Subject, plain
from nas.interop.export.module_source import PLAIN, definitions, module_sources, names_in
from nas.interop.export.source import docstring, lines
from nas.networks.architecture import Architecture
from nas.networks.blocks.activations import NORM_EPS
from nas.networks.blocks.source import Expression, Mismatch, Term, Writer, call
from nas.networks.build import cost_of, walk

PARTS = Path(__file__).with_name("parts.py")
NAME = "python"
WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class _Ends:
    """Expressions of stem and head, and the module classes that these need."""

    stem: Expression
    head: Expression
    modules: dict[str, type]


def as_python(architecture: Architecture, provenance: Provenance, weights: str = "", tail: str = "") -> str:
    """The text of the file. weights: name of the file with the weights. tail: more functions. NotExpressible with the reason."""
    parts = definitions(PLAIN) | definitions(PARTS)
    reserved = frozenset(parts) | {"Network", "main"}
    try:
        ends = _ends(architecture)
        classes = block_classes(architecture, reserved.union(ends.modules))
        modules = [*ends.modules.values(), *(kind for each in classes for kind in each.modules.values())]
        copied = module_sources(modules, reserved.union(each.name for each in classes)) if modules else {}
    except Mismatch as reason:
        raise NotExpressible(NAME, str(reason)) from None
    texts = [*copied.values(), *("\n".join(each.text) for each in classes)]
    used_parts = _needed(parts, "\n".join([*texts, str(ends.stem), str(ends.head), "stage"]))
    helpers = {**used_parts, **copied}
    network = "\n".join(_network(architecture, classes, ends, helpers))
    if architecture.norm_eps != NORM_EPS:
        line = f"NORM_EPS = {NORM_EPS!r}"
        helpers = {name: text.replace(line, f"NORM_EPS = {architecture.norm_eps!r}") for name, text in helpers.items()}
    main = _MAIN.format(size=f"{architecture.channels}, {architecture.resolution}, {architecture.resolution}")
    constants = [text for text in helpers.values() if not text.startswith(_DEFINES)]
    defined = [text for text in helpers.values() if text.startswith(_DEFINES)]
    blocks = ["\n".join(each.text) for each in classes]
    code = "\n\n\n".join([*defined, *blocks, network, *([tail.rstrip()] if tail else []), main])
    used = names_in("\n".join([*constants, code]))
    head = "\n".join(docstring(_title(architecture, provenance, weights), 0))
    return "\n\n".join([head, _imports(used), *constants]) + f"\n\n\n{code}"


_DEFINES = ("class", "def", "@")


def _imports(used: set[str]) -> str:
    standard = [
        *(["import math"] if "math" in used else []),
        *(["from collections.abc import Callable"] if "Callable" in used else []),
        *(["from functools import partial"] if "partial" in used else []),
        *(["from pathlib import Path"] if "Path" in used else []),
    ]
    torch = ["import torch", "from torch import Tensor, nn"]
    torch += ["from torch.nn import functional as F"] if "F" in used else []
    torch += ["from torch.utils.flop_counter import FlopCounterMode"]
    return "\n\n".join("\n".join(some) for some in (["from __future__ import annotations"], standard, torch) if some)


def _needed(parts: dict[str, str], source: str) -> dict[str, str]:
    """The parts that a source uses, directly or through other parts, by name, in order."""
    needed: set[str] = set()
    new = source
    while missing := (names_in(new) & parts.keys()) - needed:
        needed |= missing
        new = "\n".join(parts[name] for name in missing)
    return {name: text for name, text in parts.items() if name in needed}


def _ends(architecture: Architecture) -> _Ends:
    stem, *_, head = walk(architecture)
    before, last = architecture.channels, architecture.stages[-1].width
    of_stem, of_head = Writer.alone(), Writer.alone(architecture.head.classes)
    made_stem, _ = of_stem.sequence([stem.layers], Term(str(before), (before,)))
    made_head, _ = of_head.sequence([head.layers], Term(str(last), (last,)))
    return _Ends(made_stem, made_head, of_stem.modules | of_head.modules)


def _network(
    architecture: Architecture, classes: list[BlockClass], ends: _Ends, helpers: Mapping[str, str]
) -> list[str]:
    """The class `Network`. helpers: source of the definitions that its blocks use, by name."""
    blocks = {number: block for each in classes for number, block in each.stages.items()}
    rows = []
    width_in = architecture.stem.width
    for number, stage in enumerate(architecture.stages):
        more = {"stride": str(stage.stride)} if stage.stride != 1 else {}
        sizes = (str(stage.depth), str(width_in), str(stage.width))
        rows += lines(call("stage", blocks[number], *sizes, **more), 12, "", ",")
        width_in = stage.width
    starts = []
    special = [name for name, text in helpers.items() if "\n    def initialise(" in text]
    if special:
        kind = special[0] if len(special) == 1 else f"({', '.join(special)})"
        starts = [f"            elif isinstance(module, {kind}):", "                module.initialise()"]
    # `modules()` gives modules before their children; reversed, a module's start is set after its children are initialized.
    loop = "reversed(list(self.modules()))" if special else "self.modules()"
    drop = []
    if "StochasticDepth" in helpers:
        drop = [
            "        blocks = [block for each in stages for block in each]",
            "        for number, block in enumerate(blocks, 1):",
            "            for module in block.modules():",
            "                if isinstance(module, StochasticDepth):",
            "                    module.rate *= number / len(blocks)",
        ]
    size = f"{architecture.channels}, {architecture.resolution}, {architecture.resolution}"
    return [
        "class Network(nn.Module):",
        *docstring([f"Images (b, {size}), or of another size, -> logits (b, classes)."], 4),
        "",
        f"    def __init__(self, classes: int = {architecture.head.classes}) -> None:",
        "        super().__init__()",
        *lines(ends.stem, 8, "self.stem = "),
        "        stages = [  # block, depth, width in, width",
        *rows,
        "        ]",
        "        self.stages = nn.ModuleList(stages)",
        *lines(ends.head, 8, "self.head = "),
        f"        for module in {loop}:",
        "            if isinstance(module, nn.Conv2d):",
        '                nn.init.kaiming_normal_(module.weight, mode="fan_out")',
        "                if module.bias is not None:",
        "                    nn.init.zeros_(module.bias)",
        *starts,
        *drop,
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        "        x = self.stem(x)",
        "        for each in self.stages:",
        "            x = each(x)",
        "        logits: Tensor = self.head(x)",
        "        return logits",
    ]


_MAIN = '''def main() -> None:
    """Print the shape of the logits, parameters and multiply-adds of an image."""
    network = Network().eval()
    images = torch.zeros(1, {size})
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        logits = network(images)
    params = sum(tensor.numel() for tensor in network.parameters())
    print(f"logits: {{tuple(logits.shape)}}")
    print(f"parameters: {{params:,}}")
    print(f"multiply-adds: {{counter.get_total_flops() // 2:,}}")


if __name__ == "__main__":
    main()
'''


def _title(architecture: Architecture, provenance: Provenance, weights: str) -> list[str | list[str]]:
    cost = cost_of(architecture)
    size = f"{architecture.channels}, {architecture.resolution}, {architecture.resolution}"
    costs = f"{cost.params:,} parameters; {cost.macs:,} multiply-adds of convolutions and linear layers an image"
    paragraphs: list[str | list[str]] = [
        f"{architecture}: images (b, {size}) -> logits (b, {architecture.head.classes}).",
        f"{costs}; digest {architecture.digest}. Plain PyTorch: nothing else is needed.",
    ]
    if weights:
        paragraphs.append(f'Weights: network.load_state_dict(safetensors.torch.load_file("{weights}")) of a Network().')
    if provenance:
        text = yaml.safe_dump({"Provenance": plain(provenance)}, sort_keys=False, width=80, default_flow_style=False)
        paragraphs.append(text.rstrip().split("\n"))
    return paragraphs


def write(subject: Subject, path: Path) -> None:
    weights = path.with_suffix(WEIGHTS)
    text = as_python(subject.architecture, subject.provenance, weights.name if subject.weights is not None else "")
    path.write_text(text, encoding="utf-8")
    if subject.weights is not None:
        save_weights(subject.weights, weights)


def save_weights(weights: Any, path: Path) -> None:
    """Write a state_dict as safetensors."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, path, {"format": "pt"})


def load(path: Path, threads: int) -> Any:
    """The network of the file, without its weights, which don't change its latency."""
    return runpy.run_path(str(path))["Network"]().eval()


EXPORTERS.register(NAME)(Exporter(".py", write, "one stand-alone file of plain PyTorch", as_python, load=load))
