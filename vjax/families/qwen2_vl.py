"""Qwen2-VL (arXiv 2409.12191): native-resolution tower, 2x2 merger, Qwen2 with M-RoPE.

Reference: transformers' Qwen2VLForConditionalGeneration.
"""

import re
from collections.abc import Mapping

from vjax.families.fields import check_known
from vjax.families.spec import (
    NO_TOKEN,
    ModelSpec,
    Placeholder,
    ProjectorSpec,
    Release,
    TowerSpec,
)
from vjax.families.text import (
    decoder_config,
    decoder_spec,
    decoder_unused,
    decoder_weights,
    end_and_pad,
    linear,
    no_weights,
)
from vjax.families.vision import CLIP_MEAN, CLIP_STD

RELEASES = {
    "qwen2_vl_2b": Release("Qwen/Qwen2-VL-2B-Instruct"),
    "qwen2_vl_7b": Release("Qwen/Qwen2-VL-7B-Instruct"),
    "qwen2_vl_72b": Release("Qwen/Qwen2-VL-72B-Instruct"),
}
QWEN2 = {"model_type": "qwen2", "rope_theta": 1e6, "rms_norm_eps": 1e-5}
IMAGE_SIZE = 224  # of square frames where nothing else is asked for; any multiple of 28 will do
END = 151645  # <|im_end|>
VISION_THETA = 10_000.0
IDS = ("eos_token_id", "pad_token_id")
# keys of a decoder's config that released files hold at their top level
TEXT_KEYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "intermediate_size", "vocab_size", "hidden_act", "rope_theta", "rope_scaling",
    "rope_parameters", "rms_norm_eps", "use_sliding_window", "sliding_window",
    "max_window_layers", *IDS,
)  # fmt: skip

TOP = (
    "vision_config", "text_config", "image_token_id", "video_token_id", "vision_start_token_id",
    "vision_end_token_id", "vision_token_id", "tie_word_embeddings",
)  # fmt: skip
VISION = (
    "depth", "hidden_size", "hidden_act", "num_heads", "in_channels", "in_chans", "patch_size",
    "spatial_patch_size", "spatial_merge_size", "temporal_patch_size", "rope_parameters",
)  # fmt: skip


def spec(config: dict) -> ModelSpec:
    """Reads a Qwen2VLConfig, as published (language keys at the top) or as transformers 5 saves it.

    Raises as `vjax.families.llava.spec`.
    """
    vision = config["vision_config"]
    width = vision["embed_dim"]
    return read(
        config,
        "qwen2_vl",
        out="hidden_size",
        fields=("embed_dim", "mlp_ratio"),
        width=width,
        ffn=int(width * vision.get("mlp_ratio", 4)),
        act=vision.get("hidden_act", "quick_gelu"),
    )


def read(
    config: dict,
    family: str,
    *,
    out: str,
    fields: tuple[str, ...],
    decoder: Mapping = QWEN2,
    **tower: object,
) -> ModelSpec:
    """What the families of Qwen-VL share.

    Args:
      out: the field of vision_config that says how wide the decoder is.
      fields: of vision_config that the family reads beside those that all do.
      decoder: its model_type, and settings where nothing is said.
      tower: fields of its spec that the families read each in its own way.

    Raises:
      KeyError: a size that is missing.
      ValueError: a setting that is not read, with its name.
    """
    vision = config["vision_config"]
    nested = "text_config" in config
    check_known(config, (*TOP, *TEXT_KEYS))
    check_known(vision, (*VISION, *fields), "vision_config.")
    text = config["text_config"] if nested else {k: config[k] for k in TEXT_KEYS if k in config}
    if nested:  # transformers 4.5x saved language keys in both places, and ids of pictures too
        text = {k: v for k, v in text.items() if k in IDS or not k.endswith("_token_id")}
        for name in {*TEXT_KEYS} - {*IDS}:
            twice = config.get(name), text.get(name)
            if all(isinstance(x, int | float) for x in twice) and twice[0] != twice[1]:
                raise ValueError(
                    f"config.json: {name} is {twice[0]} at its top, {twice[1]} in text_config"
                )
    text = {**decoder, **text, "model_type": decoder["model_type"]}
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    language = decoder_spec(text, tied=bool(tied), where="text_config." if nested else "")
    if sum(language.mrope) != language.head_dim // 2:
        raise ValueError(
            f"config.json: mrope_section {list(language.mrope)} does not sum to half of a head of "
            f"{language.head_dim}"
        )
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    if channels != 3:
        raise ValueError(f"config.json: vision_config.in_channels is {channels}, not 3")
    if vision.get(out, language.width) != language.width:
        raise ValueError(
            f"config.json: vision_config.{out} is {vision[out]}, the decoder is "
            f"{language.width} wide"
        )
    rope = vision.get("rope_parameters") or {}
    merge = vision.get("spatial_merge_size", 2)
    end, pad = end_and_pad({"eos_token_id": END} | text)
    common = dict(
        layers=vision.get("depth", 32),
        heads=vision.get("num_heads", 16),
        image_size=IMAGE_SIZE,
        patch_size=vision.get("patch_size", 14),
        position="rope2d",
        rope_theta=rope.get("rope_theta", VISION_THETA),
        temporal_patch=vision.get("temporal_patch_size", 2),
        merge=merge,
        fused_qkv=True,
        patch_bias=False,
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )
    return ModelSpec(
        family=family,
        vision=TowerSpec(**common | tower),
        projector=ProjectorSpec(hidden=tower["width"] * merge**2, merge=merge, norm=True),
        text=language,
        image_token_id=config["image_token_id"],
        video_token_id=config["video_token_id"],
        frame_token_id=config.get("vision_start_token_id", NO_TOKEN),
        end_token_id=end,
        pad_token_id=pad,
        pictures="grids",
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision, text = spec.vision, spec.text
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "image_token_id": spec.image_token_id,
        "video_token_id": spec.video_token_id,
        "vision_start_token_id": spec.frame_token_id,
        "tie_word_embeddings": text.tied,
        "vision_config": {
            "model_type": "qwen2_vl_vision",
            "embed_dim": vision.width,
            "depth": vision.layers,
            "num_heads": vision.heads,
            "mlp_ratio": vision.ffn // vision.width,
            "hidden_size": text.width,
            "hidden_act": vision.act,
            "in_channels": 3,
            "patch_size": vision.patch_size,
            "spatial_merge_size": vision.merge,
            "temporal_patch_size": vision.temporal_patch,
            "rope_parameters": {"rope_type": "axial", "rope_theta": vision.rope_theta},
        },
        "text_config": decoder_config(text)
        | {
            "model_type": "qwen2_vl_text",
            "eos_token_id": spec.end_token_id,
            "pad_token_id": spec.pad_token_id,
        },
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """A frame is a video of its own: its boundary is the token that starts a picture."""
    video = Placeholder({"type": "video"}, spec.video_token_id)
    image = Placeholder({"type": "image"}, spec.image_token_id)
    return {"frame": video, "image": image, "video": video}


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    visual = "model.visual"
    names = {
        "tower/patch/kernel": (
            f"{visual}.patch_embed.proj.weight",
            f"conv/{spec.vision.temporal_patch}",
        )
    }
    block = f"{visual}.blocks.{{}}"
    linear(names, "tower/layers/attn/qkv", f"{block}.attn.qkv", bias=True)
    linear(names, "tower/layers/attn/o", f"{block}.attn.proj", bias=True)
    mlp = ("fc1", "fc2")
    if spec.vision.gated:
        mlp = ("gate", "up", "down")
    for name in mlp:
        theirs = f"{name}_proj" if spec.vision.gated else name
        linear(names, f"tower/layers/mlp/{name}", f"{block}.mlp.{theirs}", bias=True)
    norms = {"tower/layers/norm1": f"{block}.norm1", "tower/layers/norm2": f"{block}.norm2"}
    for ours, theirs in (norms | {"projector/norm": f"{visual}.merger.ln_q"}).items():
        names[f"{ours}/scale"] = (f"{theirs}.weight", "same")
        if spec.vision.norm == "layer":
            names[f"{ours}/bias"] = (f"{theirs}.bias", "same")
    linear(names, "projector/fc1", f"{visual}.merger.mlp.0", bias=True)
    linear(names, "projector/fc2", f"{visual}.merger.mlp.2", bias=True)
    return names | decoder_weights(spec.text, "model.language_model")


def module_name(name: str) -> str:
    """A tensor name as any release saved it -> its name in transformers 5's modules.

    Published files hold `visual...` and `model.layers...`.
    """
    name = re.sub(r"^visual\.", "model.visual.", name)
    return re.sub(r"^model\.(?!visual\.|language_model\.)", "model.language_model.", name)


def file_name(name: str) -> str:
    """The other way: a module's tensor name -> the published one, which every release loads."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def is_unused(spec: ModelSpec, name: str) -> bool:
    """Whether a file may hold the tensor though the model does not use it.

    Old files hold rotary frequencies of the tower too.
    """
    return decoder_unused(spec.text, name) or bool(re.fullmatch(r".*\.inv_freq", name))


unused_weights = no_weights
