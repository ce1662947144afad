"""Every format against designs of every kind: what is loaded again gives our logits, or the design is refused with the reason.

The contract of an exporter. `pytest -m slow --export-matrix docs/export.md tests/interop/test_export_matrix.py` writes what came of it.
"""

from __future__ import annotations

import functools
import runpy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from export_matrix import BEGIN, END, Matrix, rewritten
from helpers_export import SPACES, assert_same_layers, far, images_for, logits_of, small_designs, subject_of
from safetensors.torch import load_file
from torch import Tensor

from nas.interop.export import EXPORTERS, NotExpressible, Subject
from nas.interop.export.formats import Exporter
from nas.interop.importers.pycls import read_config
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build
from nas.spaces.space import load_space
from nas.utils.yaml_text import parse_yaml

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLISHED = [
    *("resnet18", "resnet18d", "resnext50_32x4d", "seresnext50_32x4d", "res2net50_26w_4s", "resnet20", "plain20"),
    *("wrn_16_8", "skipnet38", "mobilenet_v2", "efficientnet_b0", "efficientnet_cc_b0_4e", "regnet_x_400mf"),
    *("regnet_y_400mf", "convnext_tiny"),
]


def config(path: Path, subject: Subject):
    network = build(Architecture.from_yaml(path))
    network.load_state_dict(subject.weights)
    return network.eval()


def python(path: Path, subject: Subject):
    network = runpy.run_path(str(path))["Network"]()
    network.load_state_dict(load_file(path.with_suffix(".safetensors")))
    return network.eval()


def onnx(path: Path, subject: Subject):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def timm(path: Path, subject: Subject):
    import timm

    return timm.create_model(f"local-dir:{path}", pretrained=True).eval()


def pycls(path: Path, subject: Subject):
    network = build(read_config(parse_yaml(path.read_text(), str(path)), str(path)).architecture)
    network.load_state_dict(subject.weights)
    return network.eval()


LOADERS = {
    "yaml": config,
    "json": config,
    "python": python,
    "onnx": onnx,
    "torchscript": lambda path, subject: torch.jit.load(path),
    "pt2": lambda path, subject: torch.export.load(path).module(),
    "huggingface": lambda path, subject: runpy.run_path(str(path / "modeling.py"))["from_pretrained"](path),
    "torchvision": lambda path, subject: runpy.run_path(str(path))["load"](),
    "timm": timm,
    "pycls": pycls,
}
GRAPHS = ("onnx", "torchscript", "pt2")  # of evaluation: nothing of training is in them, and no layers by name


@dataclass
class Held:
    """A design that formats are held against: images, and its own logits in single and in double precision."""

    subject: Subject

    @functools.cached_property
    def images(self) -> Tensor:
        return images_for(self.subject.architecture, 3, self.subject.architecture.resolution)

    @functools.cached_property
    def expected(self) -> Tensor:
        return logits_of(self.subject, self.images)

    @functools.cached_property
    def exact(self) -> Tensor:
        with torch.inference_mode():
            return self.subject.network().double()(self.images.double())


def outcome(name: str, held: Held, folder: Path) -> str:
    """'' if what the format wrote gives our logits, else why it wrote nothing."""
    subject = held.subject
    path = folder / f"network{EXPORTERS[name].suffix}"
    try:
        EXPORTERS[name].write(subject, path)
    except NotExpressible as error:
        assert str(error) == f"not expressible as {name} because {error.reason}"
        assert not list(folder.iterdir()), "what is refused leaves nothing"
        return error.reason
    assert path.is_dir() == EXPORTERS[name].folder
    assert all(each.name.startswith(path.stem.partition(".")[0]) for each in folder.iterdir())
    loaded = LOADERS[name](path, subject)
    if name not in GRAPHS:
        assert_same_layers(loaded, subject.architecture, said=path.read_text() if name == "pycls" else "")
    with torch.inference_mode():
        got = loaded(held.images)
        if exact_in(name, subject.architecture):
            assert far(got, held.expected) < 1e-5
            assert far(loaded.double()(held.images.double()), held.exact) < 1e-9
        else:  # of deep networks PyTorch itself knows the logits to 2e-5 only: onnxruntime must be as near to the exact ones
            assert far(got, held.expected) < 1e-5 or far(got, held.exact) < 4 * far(held.expected, held.exact)
    return ""


def exact_in(name: str, architecture: Architecture) -> bool:
    """Whether what a format gives can be run in double precision, in which no rounding hides another network.

    onnxruntime has no convolutions of doubles; torch.export writes the type of SkipNet's gates into the graph.
    """
    gated = any(stage.merge.kind == "skip" for stage in architecture.stages)
    return name != "onnx" and not (name == "pt2" and gated)


@pytest.fixture(scope="module")
def sayable() -> Held:
    """A design that all formats can say."""
    return Held(subject_of(zoo.get("resnet18").adapted(classes=10, resolution=32, channels=3), run="a run"))


@pytest.fixture(scope="module")
def small() -> list[Held]:
    return [Held(subject_of(architecture)) for architecture in small_designs().values()]


@pytest.mark.parametrize("name", list(EXPORTERS))
def test_every_format_is_held_against_a_design_that_all_can_say(name, sayable, tmp_path):
    assert name in LOADERS, "a format without a way back is not tested"
    assert outcome(name, sayable, tmp_path) == ""
    assert EXPORTERS[name].about
    assert isinstance(EXPORTERS[name], Exporter)


@pytest.mark.parametrize("name", [name for name in EXPORTERS if name not in ("onnx", "pt2", "torchscript")])
def test_small_designs_pass_or_are_refused(name, small, tmp_path):
    for k, held in enumerate(small):
        (folder := tmp_path / str(k)).mkdir()
        outcome(name, held, folder)


def rows() -> dict[str, Architecture]:
    found = {
        f"`{name}`": zoo.get(name).adapted(classes=10, resolution=32, channels=zoo.get(name).channels)
        for name in PUBLISHED
    }
    for name in SPACES:
        space = load_space(name)
        found[f"space `{name}`, a sample"] = space.architecture(space.sample(1))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("design", list(rows()))
@pytest.mark.timeout(900)
def test_designs_and_formats(design, tmp_path, matrix):
    held = Held(subject_of(rows()[design]))
    for name in EXPORTERS:
        (folder := tmp_path / name).mkdir()
        matrix.record(design, name, outcome(name, held, folder))


def test_the_page_gets_a_table_with_its_reasons_below():
    matrix = Matrix()
    matrix.record("a", "yaml")
    matrix.record("a", "timm", "it has 3 stages, not 4")
    text = rewritten(f"before\n{BEGIN}\n{END}\nafter\n", matrix, ["yaml", "timm"])
    assert text == (
        f"before\n{BEGIN}\n| design | `yaml` | `timm` |\n|---|:-:|:-:|\n| a | pass | no (1) |\n\n"
        f"1. it has 3 stages, not 4\n{END}\nafter\n"
    )
    later = Matrix()
    later.record("b", "yaml", "it is odd")
    later.record("b", "timm", "it has 3 stages, not 4")
    text = rewritten(text, later, ["yaml", "timm"])
    assert "| a | pass | no (1) |\n| b | no (2) | no (1) |\n\n1. it has 3 stages, not 4\n2. it is odd\n" in text
    later.record("b", "timm")
    assert "| a | pass | no (1) |\n| b | no (2) | pass |\n" in rewritten(text, later, ["yaml", "timm"])
    assert rewritten(text, Matrix(), ["yaml", "timm"]) == text


def test_the_page_names_formats_and_designs_that_there_are():
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    table = page.split(BEGIN)[1].split(END)[0].strip().splitlines()
    if table:
        assert table[0] == f"| design | {' | '.join(f'`{name}`' for name in EXPORTERS)} |"
        assert [line.split(" | ")[0][2:] for line in table[2:] if line.startswith("|")] == list(rows())
    assert all(f"`{name}`" in page for name in EXPORTERS)
