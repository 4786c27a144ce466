"""Qwen3-VL (arXiv 2511.21631): learned positions beside rotary ones, taps into the decoder, Qwen3.

Reference: transformers' Qwen3VLForConditionalGeneration. What all families of Qwen-VL share is in
`vjax.families.qwen2_vl`.
"""

import dataclasses
import math

from vjax.families import qwen2_vl
from vjax.families.qwen2_vl import placeholders, unused_weights
from vjax.families.spec import HALF, ModelSpec, Release
from vjax.families.text import decoder_weights, linear, same_name, unused_by_decoder

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
    f"qwen3_vl_{size.lower()}": Release(f"Qwen/Qwen3-VL-{size}-Instruct")
    for size in ("2B", "4B", "8B", "32B")
}
QWEN3 = {"model_type": "qwen3", "rope_theta": 5e5, "rms_norm_eps": 1e-6, "head_dim": 128}
FIELDS = (
    "intermediate_size", "out_hidden_size", "num_position_embeddings", "deepstack_visual_indexes",
)  # fmt: skip


def spec(config: dict) -> ModelSpec:
    """Reads a Qwen3VLConfig; raises as `vjax.families.qwen2_vl.spec`."""
    vision = config["vision_config"]
    table = vision.get("num_position_embeddings", 2304)
    side = math.isqrt(table)
    if side**2 != table:
        raise ValueError(
            f"config.json: vision_config.num_position_embeddings is {table}, no square"
        )
    taps = tuple(vision.get("deepstack_visual_indexes", (8, 16, 24)))
    layers = vision.get("depth", 27), config["text_config"]["num_hidden_layers"]
    if list(taps) != sorted({*taps} & {*range(layers[0])}) or not 0 < len(taps) <= layers[1]:
        raise ValueError(
            f"config.json: vision_config.deepstack_visual_indexes is {list(taps)}: rising numbers "
            f"of the tower's {layers[0]} layers, at most as many as the decoder's {layers[1]}"
        )
    read = qwen2_vl.read(
        config | {"vision_config": {"patch_size": 16, "depth": 27} | vision},
        "qwen3_vl",
        out="out_hidden_size",
        fields=FIELDS,
        decoder=QWEN3,
        width=vision["hidden_size"],
        ffn=vision["intermediate_size"],
        act=vision.get("hidden_act", "gelu_pytorch_tanh"),
        patch_bias=True,
        table_side=side,
        taps=taps,
        mean=HALF,
        std=HALF,
    )
    projector = dataclasses.replace(read.projector, kind="deepstack")
    return dataclasses.replace(read, projector=projector, pictures="timed_grids")


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision, config = spec.vision, qwen2_vl.config_json(spec)
    tower, text = config["vision_config"], config["text_config"]
    for name in ("embed_dim", "mlp_ratio"):
        del tower[name]
    for name in ("use_sliding_window", "sliding_window"):
        text.pop(name, None)
    return config | {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "vision_config": tower
        | {
            "model_type": "qwen3_vl_vision",
            "hidden_size": vision.width,
            "intermediate_size": vision.ffn,
            "out_hidden_size": spec.text.width,
            "num_position_embeddings": vision.table_side**2,
            "deepstack_visual_indexes": list(vision.taps),
        },
        "text_config": text | {"model_type": "qwen3_vl_text"},
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    visual = "model.visual"
    patch = f"{visual}.patch_embed.proj"
    names = {
        "tower/patch/kernel": (f"{patch}.weight", f"conv/{spec.vision.temporal_patch}"),
        "tower/patch/bias": (f"{patch}.bias", "same"),
        "tower/table": (f"{visual}.pos_embed.weight", "same"),
    }
    block = f"{visual}.blocks.{{}}"
    linear(names, "tower/layers/attn/qkv", f"{block}.attn.qkv", bias=True)
    linear(names, "tower/layers/attn/o", f"{block}.attn.proj", bias=True)
    norms = {"tower/layers/norm1": f"{block}.norm1", "tower/layers/norm2": f"{block}.norm2"}
    mergers = {
        "projector": f"{visual}.merger",
        "projector/taps": f"{visual}.deepstack_merger_list.{{}}",
    }
    for ours, theirs in ({"tower/layers/mlp": f"{block}.mlp"} | mergers).items():
        for name in ("fc1", "fc2"):
            linear(names, f"{ours}/{name}", f"{theirs}.linear_{name}", bias=True)
    norms |= {f"{ours}/norm": f"{theirs}.norm" for ours, theirs in mergers.items()}
    for ours, theirs in norms.items():
        names[f"{ours}/scale"] = (f"{theirs}.weight", "same")
        names[f"{ours}/bias"] = (f"{theirs}.bias", "same")
    return names | decoder_weights(spec.text, "model.language_model")


module_name = file_name = same_name
is_unused = unused_by_decoder
