"""InternVL3 (arXiv 2504.10479): InternViT, pixel shuffle, MLP, Qwen2.

Reference: transformers' InternVLForConditionalGeneration, which numbers every token by one.
"""

from vjax.families import llava
from vjax.families.fields import check_known, check_values
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

RELEASES = {
    f"internvl3_{size.lower()}": Release(f"OpenGVLab/InternVL3-{size}-hf")
    for size in ("1B", "2B", "8B", "14B", "38B", "78B")
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOP = (
    "vision_config", "text_config", "image_token_id", "image_seq_length", "downsample_ratio",
    "projector_hidden_act", "vision_feature_layer", "vision_feature_select_strategy",
    "tie_word_embeddings",
)  # fmt: skip
# the class's defaults, which its files leave out
VISION = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "attention_bias": False, "use_qk_norm": False, "intermediate_size": 4096, "hidden_act": "gelu",
    "norm_type": "layer_norm", "layer_norm_eps": 1e-6, "image_size": (448, 448),
    "patch_size": (14, 14), "use_mean_pooling": True,
}  # fmt: skip
OF_TRAINING = (
    "layer_scale_init_value", "hidden_dropout_prob", "projection_dropout", "initializer_factor",
)  # fmt: skip
# (part, key, the value where the key is absent, the value that is read)
REQUIRED = (
    ("vision_config", "model_type", "internvl_vision", "internvl_vision"),
    ("vision_config", "num_channels", 3, 3),
    ("vision_config", "use_mask_token", False, False),
    ("vision_config", "use_absolute_position_embeddings", True, True),
    ("", "vision_feature_select_strategy", "default", "default"),
)
NORMS = {"layer_norm": "layer", "rms_norm": "rms"}
SQUARE = "<img><IMG_CONTEXT></img>"


def spec(config: dict) -> ModelSpec:
    """Reads an InternVLConfig; raises as `vjax.families.llava.spec`."""
    check_values(config, REQUIRED, "internvl")
    check_known(config, TOP)
    fields = (*VISION, *OF_TRAINING, *(key for part, key, *_ in REQUIRED if part))
    check_known(config["vision_config"], fields, "vision_config.")
    vision = VISION | config["vision_config"]
    image_size, patch_size = (_side(vision, name) for name in ("image_size", "patch_size"))
    ratio = config.get("downsample_ratio", 0.5)
    merge = round(1 / ratio) if ratio else 0
    if abs(merge * ratio - 1) > 1e-6 or image_size // patch_size % merge:
        raise ValueError(
            f"config.json: downsample_ratio is {ratio}, a picture has {image_size // patch_size} "
            "patches along a side: no whole number of blocks"
        )
    if vision["norm_type"] not in NORMS:
        raise ValueError(
            f"config.json: vision_config.norm_type is {vision['norm_type']!r}; what is read: "
            f"{', '.join(NORMS)}"
        )
    layer = llava.selected_layer(config, -1, vision["num_hidden_layers"])
    text = {"model_type": "qwen2"} | config["text_config"]
    end, pad = end_and_pad(text)
    return ModelSpec(
        family="internvl",
        vision=TowerSpec(
            width=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            ffn=vision["intermediate_size"],
            image_size=image_size,
            patch_size=patch_size,
            act=vision["hidden_act"],
            norm_eps=vision["layer_norm_eps"],
            select_layer=layer,
            merge=merge,
            class_token=True,
            post_norm=not vision["use_mean_pooling"] and layer == -1,
            norm=NORMS[vision["norm_type"]],
            qkv_bias=vision["attention_bias"],
            qk_norm=vision["use_qk_norm"],
            layer_scale=True,
            mean=MEAN,
            std=STD,
            model_type="internvl_vision",
        ),
        projector=ProjectorSpec(
            kind="block_norm", act=config.get("projector_hidden_act", "gelu"), merge=merge
        ),
        text=decoder_spec(text, tied=_tied(config), where="text_config."),
        image_token_id=config.get("image_token_id", 151667),
        frame_token_id=NO_TOKEN,
        end_token_id=end,
        pad_token_id=pad,
        pictures="crops",
    )


def _side(vision: dict, name: str) -> int:
    """Of a square, which files give once or twice."""
    sides = vision[name] if isinstance(vision[name], (list, tuple)) else [vision[name]]
    if len(set(sides)) != 1:
        raise ValueError(f"config.json: vision_config.{name} is {list(sides)}, no square")
    return sides[0]


def _tied(config: dict) -> bool:
    """Up to transformers 4 the decoder's own setting counted, from 5 on the whole's alone."""
    old = config.get("transformers_version", "5").startswith("4.")
    absent = config["text_config"].get("tie_word_embeddings", False) if old else True
    return bool(config.get("tie_word_embeddings", absent))


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision, text = spec.vision, spec.text
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "image_token_id": spec.image_token_id,
        "image_seq_length": spec.frame_side**2,
        "downsample_ratio": 1 / spec.projector.merge,
        "projector_hidden_act": spec.projector.act,
        "vision_feature_layer": vision.select_layer,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": text.tied,
        "vision_config": {
            "model_type": "internvl_vision",
            "hidden_size": vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "attention_bias": vision.qkv_bias,
            "use_qk_norm": vision.qk_norm,
            "intermediate_size": vision.ffn,
            "hidden_act": vision.act,
            "norm_type": next(name for name, ours in NORMS.items() if ours == vision.norm),
            "layer_norm_eps": vision.norm_eps,
            "image_size": [vision.image_size] * 2,
            "patch_size": [vision.patch_size] * 2,
            "use_mean_pooling": not vision.post_norm,
        },
        "text_config": decoder_config(text)
        | {"eos_token_id": spec.end_token_id, "pad_token_id": spec.pad_token_id},
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """A frame is a square after a line break, without a number."""
    image = spec.image_token_id
    return {
        "frame": Placeholder({"type": "text", "text": f"\n{SQUARE}"}, image),
        "view": Placeholder({"type": "text", "text": SQUARE}, image),
        "image": Placeholder({"type": "image"}, image),
        "video": Placeholder({"type": "video"}, image, "<video>"),
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    tower, projector = "model.vision_tower", "model.multi_modal_projector"
    embeddings, vision = f"{tower}.embeddings", spec.vision
    names: dict[str, tuple[str, str]] = {
        "tower/patch/kernel": (f"{embeddings}.patch_embeddings.projection.weight", "conv"),
        "tower/patch/bias": (f"{embeddings}.patch_embeddings.projection.bias", "same"),
        "tower/position": (f"{embeddings}.position_embeddings", "lead/1"),
        "tower/class_token": (f"{embeddings}.cls_token", "lead/2"),
    }
    layer, ours = f"{tower}.encoder.layer.{{}}", "tower/layers"
    for name in ("q", "k", "v"):
        theirs = f"{layer}.attention.{name}_proj"
        linear(names, f"{ours}/attn/{name}", theirs, bias=vision.qkv_bias)
    linear(names, f"{ours}/attn/o", f"{layer}.attention.projection_layer", bias=True)
    for name in ("fc1", "fc2"):
        linear(names, f"{ours}/mlp/{name}", f"{layer}.mlp.{name}", bias=True)
    for n in (1, 2):
        names[f"{ours}/scale{n}"] = (f"{layer}.lambda_{n}", "same")
    norms = {
        f"{ours}/norm1": f"{layer}.layernorm_before",
        f"{ours}/norm2": f"{layer}.layernorm_after",
    }
    if vision.qk_norm:
        for name in ("q_norm", "k_norm"):
            names[f"{ours}/attn/{name}/scale"] = (f"{layer}.attention.{name}.weight", "same")
    for name, theirs in norms.items():
        names[f"{name}/scale"] = (f"{theirs}.weight", "same")
        if vision.norm == "layer":
            names[f"{name}/bias"] = (f"{theirs}.bias", "same")
    whole = {"projector/norm": f"{projector}.layer_norm"}
    if vision.post_norm:
        whole["tower/post_norm"] = f"{tower}.layernorm"
    for name, theirs in whole.items():
        names[f"{name}/scale"] = (f"{theirs}.weight", "same")
        names[f"{name}/bias"] = (f"{theirs}.bias", "same")
    linear(names, "projector/fc1", f"{projector}.linear_1", bias=True)
    linear(names, "projector/fc2", f"{projector}.linear_2", bias=True)
    return names | decoder_weights(spec.text, "model.language_model")


module_name = llava.module_name


def file_name(name: str) -> str:
    """The other way: a module's tensor name -> the published one, which every release loads."""
    return llava.file_name(name).replace("vision_tower.vision_model.", "vision_tower.")


def is_unused(spec: ModelSpec, name: str) -> bool:
    """Whether a file may hold the tensor (by module name) though the model does not use it.

    The tower's final norm is for its last layer.
    """
    norm = name.startswith("model.vision_tower.layernorm.") and spec.vision.select_layer != -1
    return norm or decoder_unused(spec.text, name)


unused_weights = no_weights
