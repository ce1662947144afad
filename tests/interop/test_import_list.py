"""Which of timm's and torchvision's networks import, at the costs that PyTorch counts; timm's list is in docs/import.md.

An import holds the options of all layers, and the logits with the same random weights at two sizes: one that is not the
library's function is refused, and is lost here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torchvision
from import_list import BEGIN, END, Imports, rewritten
from oracles import measured

from nas.errors import UsageError
from nas.interop.importers import Inexpressible, import_source
from nas.interop.importers.libraries import LIBRARIES
from nas.networks import zoo
from nas.networks.build import cost_of
from nas.networks.cost import Cost

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = (
    *("resnet", "res2net", "resnest", "sknet", "senet", "resnetv2"),
    *("regnet", "byobnet", "efficientnet", "convnext"),
)
# That must not be lost, whatever else timm's next release brings.
KEPT = {
    "resnet": {"resnet18", "resnet50", "resnet50d", "seresnet50", "resnext50_32x4d", "wide_resnet50_2"},
    "regnet": {"regnetx_002", "regnety_004"},
    "byobnet": {"gernet_s", "gernet_m", "gernet_l"},
    "efficientnet": {
        *("efficientnet_b0", "efficientnet_b5", "efficientnet_cc_b0_4e", "efficientnet_cc_b0_8e", "efficientnet_es"),
        *("mnasnet_100", "mnasnet_small", "semnasnet_100", "spnasnet_100", "mobilenetv2_100", "efficientnetv2_rw_t"),
    },
    "res2net": {"res2net50_26w_4s", "res2next50"},
    "convnext": {"convnext_tiny", "convnext_base"},
}
MNASNETS = ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3")  # that torchvision has beside the zoo's


def outcome(source: str) -> Cost | str:
    """The network's cost if it imports, as PyTorch counts it, which must be ours; else the first reason."""
    try:
        found = import_source(source).networks[0].architecture
    except Inexpressible as error:
        return error.reasons[0]
    except UsageError as error:
        return str(error)
    library, _, name = source.partition(":")
    theirs, _ = LIBRARIES[library](name, source)
    cost, _ = measured(theirs, (3, found.resolution, found.resolution))
    assert cost == cost_of(found)
    return cost


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("file", FILES)
def test_models_of_timm_import_as_the_same_function_or_say_why_not(file, import_list):
    found = {name: outcome(f"timm:{name}") for name in timm.list_models(module=file)}
    for name, own in found.items():
        import_list.record(file, name, own)
    assert KEPT.get(file, set()) <= {name for name, own in found.items() if isinstance(own, Cost)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_models_of_torchvision_import_as_the_same_function():
    known = torchvision.models.list_models(torchvision.models)
    names = [*MNASNETS, *(name for name in zoo.names() if name in known)]
    reasons = {name: own for name in names if not isinstance(own := outcome(f"torchvision:{name}"), Cost)}
    assert reasons == {} and len(names) >= 40


def test_the_page_gets_a_row_a_file_of_timms():
    imports = Imports()
    imports.record("regnet", "small", Cost(2_684_792, 200_000_000, 1))
    imports.record("regnet", "odd", "stage 3, block 1 and 2 more: squeeze-excitation of 7 channels for 12")
    imports.record("regnet", "also odd", "stage 2, block 1: squeeze-excitation of 7 channels for 12")
    text = rewritten(f"before\n{BEGIN}\n{END}\nafter\n", imports)
    row = "| regnet | 1 of 3 | `small` 2.685M/200.0M | **squeeze-excitation of 7 channels for 12**: `odd`, `also odd` |"
    assert text.splitlines()[4] == row
    later = Imports()
    later.record("sknet", "other", "SelectiveKernel blocks")
    text = rewritten(text, later)
    assert text.splitlines()[4:6] == [row, "| sknet | 0 of 1 | – | **SelectiveKernel blocks**: `other` |"]
    assert rewritten(text, Imports()) == text


def test_the_page_names_the_files_that_are_tested():
    page = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
    rows = page.split(BEGIN)[1].split(END)[0].strip().splitlines()[2:]
    listed = [row.split(" | ")[0][2:] for row in rows]
    assert len(listed) == len(set(listed)) and {"byobnet", "regnet"} <= set(listed) <= set(FILES)
    for row in rows:
        assert all(f"`{name}`" in row.split(" | ")[2] for name in KEPT.get(row.split(" | ")[0][2:], ()))
