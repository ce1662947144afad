"""timm's ByobNet from plain data: import this file, and timm.create_model loads the folder that contains it.

    import sys
    sys.path.insert(0, FOLDER)
    import timm_byobnet
    network = timm.create_model("local-dir:FOLDER", pretrained=True)

No model of timm takes its blocks as an argument; this file registers one that does, `nas_byobnet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models import build_model_with_cfg, register_model
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg


@register_model
def nas_byobnet(pretrained: bool = False, blocks: Sequence[Mapping[str, Any]] = (), **kwargs: Any) -> ByobNet:
    """blocks: for each stage, the fields of timm's ByoBlockCfg. kwargs: fields of ByoModelCfg, and timm's model arguments."""
    config = ByoModelCfg(blocks=tuple(ByoBlockCfg(**block) for block in blocks))
    network: ByobNet = build_model_with_cfg(
        ByobNet, "nas_byobnet", pretrained, model_cfg=config, feature_cfg={"flatten_sequential": True}, **kwargs
    )
    return network
