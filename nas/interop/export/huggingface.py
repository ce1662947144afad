"""The format `huggingface`: a folder for the Hub, with the weights, a model card and one file of code that loads them.

`config.json`, `model.safetensors`, `README.md` (the model card) and `modeling.py`, the stand-alone file of the format `python`
with `from_pretrained`, which needs only torch and safetensors.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nas.interop.export.formats import EXPORTERS, Exporter, Provenance, Subject, plain
from nas.interop.export.python import as_python, save_weights
from nas.networks.build import cost_of
from nas.utils.text import counted, format_count, format_percent

NAME = "huggingface"
LOAD = '''def from_pretrained(folder: str | Path = Path(__file__).parent) -> Network:
    """The network with the weights of `model.safetensors` in a folder."""
    from safetensors.torch import load_file

    network = Network()
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()
'''


def write(subject: Subject, path: Path) -> None:
    """Write the folder; NotExpressible for designs that the format `python` can't express."""
    modeling = as_python(subject.architecture, subject.provenance, tail=LOAD)
    path.mkdir(parents=True)
    (path / "modeling.py").write_text(modeling, encoding="utf-8")
    (path / "config.json").write_text(json.dumps(_config(subject), indent=2) + "\n", encoding="utf-8")
    (path / "README.md").write_text(card(subject), encoding="utf-8")
    save_weights(subject.network().state_dict(), path / "model.safetensors")


def _config(subject: Subject) -> dict[str, Any]:
    architecture, data = subject.architecture, subject.data
    cost = cost_of(architecture)
    return {
        "model_type": "nas",
        "architectures": ["Network"],
        "image_size": architecture.resolution,
        "num_channels": architecture.channels,
        "num_labels": architecture.head.classes,
        **({"id2label": {str(k): str(name) for k, name in enumerate(data["classes"])}} if "classes" in data else {}),
        **({"image_mean": data["mean"], "image_std": data["std"]} if "mean" in data and "std" in data else {}),
        "params": cost.params,
        "macs": cost.macs,
        "digest": architecture.digest,
        "trained": subject.weights is not None,
        "architecture": architecture.to_dict(),
        "provenance": plain(subject.provenance),
    }


def card(subject: Subject) -> str:
    """The model card: front matter that the Hub reads, costs, accuracies, usage and provenance."""
    architecture, cost, facts = subject.architecture, cost_of(subject.architecture), subject.provenance
    head: dict[str, object] = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "neural-architecture-search", "pytorch"],
    }
    name = " ".join(str(architecture).split()).replace("<", "&lt;")
    size = f"{architecture.channels} x {architecture.resolution} x {architecture.resolution}"
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        "",
        f"# {name}",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {cost.params:,} ({format_count(cost.params)}) |",
        f"| multiply-adds of an image | {cost.macs:,} ({format_count(cost.macs)}) |",
        f"| images | {size} |",
        f"| classes | {architecture.head.classes:,} |",
        f"| digest | `{architecture.digest}` |",
    ]
    # A search trains for fewer epochs and keeps no weights, so its accuracy is not that of the weights here.
    data_notes = []
    if searched := "run" in facts:
        epochs = facts.get("epochs")
        after = f" after {counted(epochs, 'epoch')}" if isinstance(epochs, int) else ""
        lines += _accuracy(facts, f"{after} of the search")
        mean, error, seeds = (facts.get(f"accuracy_{name}") for name in ("mean", "std_error", "seeds"))
        if isinstance(mean, float) and isinstance(error, float) and isinstance(seeds, int):
            means = f"{format_percent(mean)} ± {format_percent(error)} %"
            lines.append(f"| the same, mean of {counted(seeds, 'further seed')} | {means} |")
        data_notes += _on(subject.data_of(facts), "The search trained it")
    if not searched or subject.trained is not facts:
        lines += _accuracy(subject.trained, "")
        data_notes += _on(subject.data, "Trained")
    lines += ["", *(_UNTRAINED if subject.weights is None else ()), *_USE]
    lines += ["", " ".join(data_notes)] if data_notes else []
    lines += ["", "## Provenance", "", "```yaml"]
    lines += [yaml.safe_dump(plain(facts), sort_keys=False).rstrip().replace("```", "'''"), "```"]
    return "\n".join(lines) + "\n"


def _accuracy(facts: Provenance, when: str) -> list[str]:
    """A row of the card's table, if an accuracy is known."""
    if not isinstance(accuracy := facts.get("accuracy"), float):
        return []
    return [f"| accuracy, {facts.get('accuracy_on', 'validation')} split{when} | {format_percent(accuracy)} % |"]


def _on(data: Mapping[str, object], how: str) -> list[str]:
    """Sentences on the training data, if they are known."""
    if not data:
        return []
    scaled = (
        ["Images are scaled by the mean and the deviation in `config.json`."] if {"mean", "std"} <= data.keys() else []
    )
    return [f"{how} on {data.get('name', 'data that are not named')}.", *scaled]


_UNTRAINED = ("**The weights are random**: this network was exported without trained ones.", "")
_USE = (
    "```python",
    "from modeling import from_pretrained",
    "",
    "network = from_pretrained()  # torch and safetensors are all that it needs",
    "```",
)


def load(path: Path, threads: int) -> Any:
    return runpy.run_path(str(path / "modeling.py"))["from_pretrained"](path)


EXPORTERS.register(NAME)(
    Exporter("-huggingface", write, "folder with weights, model card and code", folder=True, load=load)
)
