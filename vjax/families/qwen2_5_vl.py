"""Qwen2.5-VL (arXiv 2502.13923): windows in the tower, RMSNorm and SwiGLU there, time in seconds.

Reference: transformers' Qwen2_5_VLForConditionalGeneration. What differs from Qwen2-VL is here;
the rest is in `vjax.families.qwen2_vl`.
"""

from vjax.families import qwen2_vl
from vjax.families.qwen2_vl import (
    file_name,
    is_unused,
    module_name,
    placeholders,
    unused_weights,
    weight_map,
)
from vjax.families.spec import ModelSpec, Release

__all__ = [
    "RELEASES",
    "config_json",
    "file_name",
    "is_unused",
    "module_name",
    "placeholders",
    "spec",
    "unused_weights",
    "weight_map",
]

RELEASES = {
    f"qwen2_5_vl_{size.lower()}": Release(f"Qwen/Qwen2.5-VL-{size}-Instruct")
    for size in ("3B", "7B", "32B", "72B")
}
FIELDS = (
    "intermediate_size", "out_hidden_size", "window_size", "fullatt_block_indexes",
    "tokens_per_second",
)  # fmt: skip


def spec(config: dict) -> ModelSpec:
    """Reads a Qwen2_5_VLConfig; as `vjax.families.qwen2_vl.spec`."""
    vision = config["vision_config"]
    block = vision.get("patch_size", 14) * vision.get("spatial_merge_size", 2)
    window = vision.get("window_size", 112)
    if window < block:
        raise ValueError(
            f"config.json: vision_config.window_size is {window} pixels, less than a block of "
            f"{block}"
        )
    return qwen2_vl.read(
        config,
        "qwen2_5_vl",
        out="out_hidden_size",
        fields=FIELDS,
        width=vision["hidden_size"],
        ffn=vision["intermediate_size"],
        act=vision.get("hidden_act", "silu"),
        norm="rms",
        gated=True,
        # of whole blocks, as there
        window=window // block * vision.get("spatial_merge_size", 2),
        full_layers=tuple(vision.get("fullatt_block_indexes", (7, 15, 23, 31))),
        time_rate=float(vision.get("tokens_per_second", 4)),
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision, config = spec.vision, qwen2_vl.config_json(spec)
    tower = config["vision_config"]
    for name in ("embed_dim", "mlp_ratio"):
        del tower[name]
    return config | {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "vision_config": tower
        | {
            "model_type": "qwen2_5_vl_vision",
            "hidden_size": vision.width,
            "intermediate_size": vision.ffn,
            "out_hidden_size": spec.text.width,
            "window_size": vision.window * vision.patch_size,
            "fullatt_block_indexes": list(vision.full_layers),
            "tokens_per_second": int(vision.time_rate),
        },
        "text_config": config["text_config"] | {"model_type": "qwen2_5_vl_text"},
    }
