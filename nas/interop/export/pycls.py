"""The format `pycls`: a model config of pycls, where its AnyNet, ResNet or EfficientNet builds the same network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from nas.interop.export.formats import EXPORTERS, Exporter, NotExpressible, Provenance, plain
from nas.interop.importers._base import MAX_FAULTS
from nas.interop.importers.pycls import ACTIVATION_KINDS, RESNET_DEPTHS, STEM_KINDS
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, MERGES, SHORTCUTS
from nas.networks.blocks.activations import NORM_EPS

NAME = "pycls"
BLOCKS = {"basic": "res_basic_block", "bottleneck": "res_bottleneck_block", "regnet": "res_bottleneck_block"}


@dataclass(slots=True)
class _Draft:
    """Sections of a config in the making. faults: what pycls can't express. remarks: what differs in training."""

    sections: dict[str, dict[str, object]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    acts: dict[str, str] = field(default_factory=dict)  # activation -> where it occurs first


def to_pycls(architecture: Architecture) -> str:
    """A pycls config (YAML) whose model is this network: parameters, multiply-adds and function are equal.

    It holds the model and the images' size; settings of training (stochastic depth, an AnyNet's dropout) are left out, with a
    comment. `nas.interop.importers.pycls.read_config` reads it back. NotExpressible with everything that pycls can't express.
    """
    network = architecture.canonical()
    draft = _Draft()
    stages = list(_without_drop(network, draft))
    kinds = list(dict.fromkeys(stage.branch.kind for stage in stages))
    if network.channels != 3:
        draft.faults.append(f"images of {network.channels} channels; pycls' have 3")
    if network.stem.kind not in STEM_KINDS.values():
        draft.faults.append(f"the {network.stem.kind} stem")
    draft.acts[getattr(network.stem, "act", "")] = "the stem"
    if network.head.kind == "expanded":
        draft.acts.setdefault(getattr(network.head, "act", ""), "the head")
    if set(kinds) <= {"mbconv"}:
        _effnet(network, stages, draft)
    elif len({BLOCKS.get(kind, kind) for kind in kinds}) > 1:
        draft.faults.append(f"stages of different blocks ({', '.join(kinds)}); pycls' networks have one kind")
    elif not set(kinds) <= set(BLOCKS):
        draft.faults.append(f"{kinds[0]} blocks")
    elif any(stage.branch.to_dict().get("stride_on") == "1x1" for stage in stages):
        _resnet(network, stages, draft)
    else:
        _anynet(network, stages, draft)
    _activations(draft)
    if draft.faults:
        more = len(draft.faults) - MAX_FAULTS
        faults = [*draft.faults[:MAX_FAULTS], *([f"and {more} more"] if more > 0 else [])]
        raise NotExpressible(NAME, f"pycls can't express {'; '.join(faults)}")
    return _text(network, draft)


def _without_drop(network: Architecture, draft: _Draft) -> Iterator[Stage]:
    dropped = False
    for stage in network.stages:
        merge = stage.merge.to_dict()
        if merge["kind"] == "add" and merge["drop"]:
            dropped, stage = True, replace(stage, merge=MERGES["add"]())
        yield stage
    if dropped:
        draft.remarks.append(
            "stochastic depth, which grows with depth here, is left out; EN.DC_RATIO is the same everywhere"
        )


def _compare(number: int, stage: Stage, wanted: Stage, width_in: int, draft: _Draft) -> None:
    """Add faults for the differences between a stage and pycls' stage of the same shape."""
    ours, theirs = stage.canonical(width_in), wanted.canonical(width_in)
    if ours.merge != theirs.merge:
        draft.faults.append(f"stage {number}: {ours.merge.kind} merge")
    elif ours.shortcut != theirs.shortcut:
        draft.faults.append(f"stage {number}: {ours.shortcut.kind} shortcut")
    if ours.branch != theirs.branch:
        there = theirs.branch.to_dict()
        options = {key: value for key, value in ours.branch.changed_options().items() if value != there.get(key)}
        draft.faults.append(f"stage {number}: {ours.branch.kind} with {_listed(options)}")
    draft.acts.setdefault(str(stage.branch.to_dict().get("act", "")), f"stage {number}")


def _listed(options: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items() if key != "kind") or "other options"


def _anynet(network: Architecture, stages: list[Stage], draft: _Draft) -> None:
    vanilla = all(stage.merge.kind == "none" for stage in stages) and stages[0].branch.kind == "basic"
    options = [stage.branch.to_dict() for stage in stages]
    ratios = {
        float(branch["se_ratio"]) if stage.branch.kind == "regnet" else 0.0
        for branch, stage in zip(options, stages, strict=True)
    }
    ratio = max(ratios)
    if len(ratios) > 1:
        draft.faults.append(f"squeeze-excitation that differs between stages ({', '.join(map(str, sorted(ratios)))})")
    width_in = network.stem.width
    for number, (stage, values) in enumerate(zip(stages, options, strict=True), 1):
        kept = ["act"] if stage.branch.kind == "basic" else ["act", "cardinality", "group_width"]
        kept += ["se_ratio"] if stage.branch.kind == "regnet" else []
        branch = BRANCHES[stage.branch.kind].make({key: values[key] for key in kept})
        merge = MERGES["none" if vanilla else "add"]()
        _compare(
            number,
            stage,
            replace(stage, branch=branch, shortcut=SHORTCUTS["projection"](), merge=merge),
            width_in,
            draft,
        )
        if ratio and 0 in (round(width_in * ratio), round(stage.width * ratio)):
            draft.faults.append(
                f"stage {number}: squeeze-excitation of {ratio:g} of {min(width_in, stage.width)} channels"
            )
        width_in = stage.width
    section = {
        "STEM_TYPE": next((name for name, kind in STEM_KINDS.items() if kind == network.stem.kind), ""),
        "STEM_W": network.stem.width,
        "BLOCK_TYPE": "vanilla_block" if vanilla else BLOCKS[stages[0].branch.kind],
        "DEPTHS": [stage.depth for stage in stages],
        "WIDTHS": [stage.width for stage in stages],
        "STRIDES": [stage.stride for stage in stages],
    }
    if stages[0].branch.kind != "basic":
        inner = [int(values["cardinality"]) * int(values["group_width"]) for values in options]
        section["BOT_MULS"] = [wide / stage.width for wide, stage in zip(inner, stages, strict=True)]
        section["GROUP_WS"] = [values["group_width"] for values in options]
    if ratio:
        section |= {"SE_ON": True, "SE_R": ratio}
    head = network.head.to_dict()
    if head["kind"] == "expanded":
        section["HEAD_W"] = head["width"]
    elif head["kind"] != "linear":
        draft.faults.append(f"the {head['kind']} head")
    if head.get("dropout"):
        draft.remarks.append(f"dropout of {head['dropout']} before the classifier is left out; pycls' AnyNet has none")
    draft.sections["ANYNET"] = section
    draft.sections["MODEL"] = {"TYPE": "anynet"}


def _resnet(network: Architecture, stages: list[Stage], draft: _Draft) -> None:
    """A network with the stride in the first 1x1, which only pycls' ResNet has: 50, 101 or 152 layers, of fixed widths."""
    depth = next((layers for layers, depths in RESNET_DEPTHS.items() if depths == tuple(s.depth for s in stages)), None)
    first = stages[0].branch.to_dict()
    groups, group_width = int(first["cardinality"]), int(first.get("group_width", 0))
    width_in = network.stem.width
    shaped = depth is not None and all(
        (stage.width, stage.stride, stage.branch.to_dict()["group_width"])
        == (256 << k, 2 if k else 1, group_width << k)
        for k, stage in enumerate(stages)
    )
    if not shaped or (network.stem.kind, width_in, network.head.kind) != ("imagenet", 64, "linear"):
        draft.faults.append("stride_on 1x1, which pycls has in ResNet-50, -101 and -152 alone")
        return
    for number, stage in enumerate(stages, 1):
        options = stage.branch.to_dict()
        asked = {
            "cardinality": groups,
            "group_width": options["group_width"],
            "stride_on": "1x1",
            "act": options["act"],
        }
        wanted = replace(
            stage, branch=BRANCHES["bottleneck"].make(asked), shortcut=SHORTCUTS["projection"](), merge=MERGES["add"]()
        )
        _compare(number, stage, wanted, width_in, draft)
        width_in = stage.width
    if network.head.to_dict().get("dropout"):
        draft.remarks.append("dropout before the classifier is left out; pycls' ResNet has none")
    draft.sections["RESNET"] = {
        "TRANS_FUN": "bottleneck_transform",
        "NUM_GROUPS": groups,
        "WIDTH_PER_GROUP": group_width,
        "STRIDE_1X1": True,
    }
    draft.sections["MODEL"] = {"TYPE": "resnet", "DEPTH": depth}


def _effnet(network: Architecture, stages: list[Stage], draft: _Draft) -> None:
    options = [stage.branch.to_dict() for stage in stages]
    ratios = sorted({float(values["se_ratio"]) for values in options})
    if len(ratios) > 1:
        draft.faults.append(f"squeeze-excitation that differs between stages ({', '.join(map(str, ratios))})")
    if network.stem.kind in STEM_KINDS.values() and network.stem.kind != "strided":
        draft.faults.append(f"the {network.stem.kind} stem before mbconv blocks")
    if network.head.kind != "expanded":
        draft.faults.append(f"the {network.head.kind} head after mbconv blocks")
    width_in = network.stem.width
    for number, (stage, values) in enumerate(zip(stages, options, strict=True), 1):
        branch = BRANCHES["mbconv"].make({key: values[key] for key in ("expansion", "kernel", "se_ratio", "act")})
        wanted = replace(stage, branch=branch, shortcut=SHORTCUTS["matching"](), merge=MERGES["add"]())
        _compare(number, stage, wanted, width_in, draft)
        if not int(min(width_in, stage.width) * float(values["se_ratio"])):
            draft.faults.append(f"stage {number}: mbconv without squeeze-excitation")
        width_in = stage.width
    head = network.head.to_dict()
    draft.sections["EN"] = {
        "STEM_W": network.stem.width,
        "DEPTHS": [stage.depth for stage in stages],
        "WIDTHS": [stage.width for stage in stages],
        "EXP_RATIOS": [values["expansion"] for values in options],
        "SE_R": ratios[0],
        "STRIDES": [stage.stride for stage in stages],
        "KERNELS": [values["kernel"] for values in options],
        "HEAD_W": head.get("width"),
        **({"DROPOUT_RATIO": head["dropout"]} if head.get("dropout") else {}),
    }
    draft.sections["MODEL"] = {"TYPE": "effnet"}


def _activations(draft: _Draft) -> None:
    acts = {act: where for act, where in draft.acts.items() if act}
    if len(acts) > 1:
        draft.faults.append(f"more than one activation: {', '.join(f'{act} ({where})' for act, where in acts.items())}")
    draft.faults += [f"activation {act}" for act in acts if act not in ACTIVATION_KINDS.values()]


def _text(network: Architecture, draft: _Draft) -> str:
    (act,) = (act for act in draft.acts if act)
    model = {**draft.sections.pop("MODEL"), "NUM_CLASSES": network.head.classes, "ACTIVATION_FUN": act}
    resolution = network.resolution
    train: dict[str, object] = {"IM_SIZE": resolution}
    if model["TYPE"] == "resnet":  # pycls builds it for ImageNet or CIFAR depending on the data's name
        train = {"DATASET": "imagenet", **train}
    sections = {"MODEL": model, **draft.sections}
    if network.norm_eps != NORM_EPS:
        sections["BN"] = {"EPS": network.norm_eps}
    # pycls tests on the center of images that are larger by 256 / 224.
    sections |= {"TRAIN": train, "TEST": {**train, "IM_SIZE": round(resolution * 256 / 224)}}
    lines = [f"# {network.name or network.digest}: the model for pycls; add OPTIM and the data."]
    lines += [f"# Not part of the model: {remark}." for remark in draft.remarks]
    for name, values in sections.items():
        lines.append(f"{name}:")
        lines += [f"  {key}: {_yaml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _yaml(value: object) -> str:
    return f"[{', '.join(map(repr, value))}]" if isinstance(value, list) else str(value)


def _with_provenance(architecture: Architecture, provenance: Provenance) -> str:
    """The config, after a comment with the network's provenance."""
    comment = f"# provenance: {json.dumps(plain(provenance))}\n" if provenance else ""
    return comment + to_pycls(architecture)


EXPORTERS.register(NAME)(Exporter.of_text(".pycls.yaml", _with_provenance, "a model config of pycls"))
