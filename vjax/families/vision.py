"""Towers: what SigLIP's, CLIP's and SmolVLM's have in common, and where they differ.

Families read their `vision_config` and name their tower's weights through this file. Reference:
transformers' SiglipVisionModel, Siglip2VisionModel, CLIPVisionModel and SmolVLMVisionTransformer.
"""

import math
import types
from collections.abc import Mapping

from vjax.families.fields import check_known
from vjax.families.spec import HALF, TowerSpec
from vjax.families.text import linear

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# model_type -> what its class computes, and what it takes where its config does not say
KINDS: Mapping[str, Mapping] = types.MappingProxyType(
    {
        "siglip_vision_model": dict(
            act="gelu_pytorch_tanh", norm_eps=1e-6, mean=HALF, std=HALF,
        ),
        "clip_vision_model": dict(
            act="quick_gelu", norm_eps=1e-5, mean=CLIP_MEAN, std=CLIP_STD, patch_bias=False,
            class_token=True, pre_norm=True,
        ),
        "smolvlm_vision": dict(
            act="gelu_pytorch_tanh", norm_eps=1e-6, mean=HALF, std=HALF, position="fractional",
            post_norm=True,
        ),
        "siglip2_vision_model": dict(
            act="gelu_pytorch_tanh", norm_eps=1e-6, mean=HALF, std=HALF, position="resampled",
        ),
    }
)  # fmt: skip
BASE = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12,
}  # fmt: skip
# what transformers' classes take where a config says nothing, as some releases' do
ABSENT: Mapping[str, Mapping] = types.MappingProxyType(
    {
        "clip_vision_model": BASE | {"image_size": 224, "patch_size": 32},
        "siglip_vision_model": BASE | {"image_size": 224, "patch_size": 16},
        "siglip2_vision_model": BASE | {"num_patches": 256, "patch_size": 16},
        "smolvlm_vision": BASE
        | {"hidden_size": 1152, "num_attention_heads": 16, "image_size": 224, "patch_size": 32},
    }
)
FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size",
    "patch_size", "num_channels", "hidden_act", "layer_norm_eps", "vision_use_head",
    "projection_dim", "vocab_size", "initializer_factor", "num_patches", "tie_word_embeddings",
)  # fmt: skip


def filled(config: Mapping) -> dict:
    """A tower's config with the sizes that it leaves to its class."""
    return dict(ABSENT.get(config.get("model_type"), {})) | dict(config)


def tower_spec(config: Mapping, *, where: str = "vision_config.", **more) -> TowerSpec:
    """Reads the config of a tower.

    Args:
      config: a config.json of its own, or the `vision_config` of another.
      where: what to call the config's keys in errors.
      more: fields of the spec that are not the config's: select_layer, keep_class, post_norm,
        merge, table_side.

    Raises:
      ValueError: a setting that is not read, with its name.
    """
    config, name = filled(config), config.get("model_type")
    if name not in KINDS:
        raise ValueError(
            f"config.json: {where}model_type is {name!r}; towers that are read: {', '.join(KINDS)}"
        )
    check_known(config, FIELDS, where)
    if config.get("num_channels", 3) != 3:
        raise ValueError(f"config.json: {where}num_channels is {config['num_channels']!r}, not 3")
    fixed = dict(KINDS[name])
    act, eps = fixed.pop("act"), fixed.pop("norm_eps")
    return TowerSpec(
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        ffn=config["intermediate_size"],
        image_size=_image_size(config),
        patch_size=config["patch_size"],
        act=config.get("hidden_act", act),
        norm_eps=config.get("layer_norm_eps", eps),
        model_type=name,
        **fixed,
        **more,
    )


def _image_size(config: Mapping) -> int:
    """Side in pixels that the table of positions is made for."""
    if "num_patches" not in config:
        return config["image_size"]
    side = math.isqrt(config["num_patches"])
    if side**2 != config["num_patches"]:
        raise ValueError(
            f"config.json: vision_config.num_patches is {config['num_patches']}, no square"
        )
    return side * config["patch_size"]


def tower_config(spec: TowerSpec) -> dict:
    """The config that `tower_spec` reads back and transformers opens."""
    naflex = spec.position == "resampled"
    config = {
        "model_type": spec.model_type,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.ffn,
        **({"num_patches": spec.patches} if naflex else {"image_size": spec.image_size}),
        "patch_size": spec.patch_size,
        "num_channels": 3,
        "hidden_act": spec.act,
        "layer_norm_eps": spec.norm_eps,
    }
    if spec.model_type == "siglip_vision_model":
        config["vision_use_head"] = False
    return config


def tower_weights(spec: TowerSpec, tower: str, ours: str = "tower") -> dict[str, tuple[str, str]]:
    """A tower's part of a family's `weight_map`; `tower` is its module, `ours` its path here."""
    embeddings = f"{tower}.embeddings"
    names: dict[str, tuple[str, str]] = {
        f"{ours}/patch/kernel": (f"{embeddings}.patch_embedding.weight", "conv"),
    }
    if spec.position == "resampled":  # patches are cut before the class sees them
        names[f"{ours}/patch/kernel"] = (f"{embeddings}.patch_embedding.weight", "linear")
    if spec.position != "rope2d":
        names[f"{ours}/position"] = (f"{embeddings}.position_embedding.weight", "same")
    if spec.patch_bias:
        names[f"{ours}/patch/bias"] = (f"{embeddings}.patch_embedding.bias", "same")
    if spec.class_token:
        names[f"{ours}/class_token"] = (f"{embeddings}.class_embedding", "same")
    layer = f"{tower}.encoder.layers.{{}}"
    for name, theirs in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "out_proj")):
        linear(names, f"{ours}/layers/attn/{name}", f"{layer}.self_attn.{theirs}", bias=True)
    for name in ("fc1", "fc2"):
        linear(names, f"{ours}/layers/mlp/{name}", f"{layer}.mlp.{name}", bias=True)
    norms = {"layers/norm1": f"{layer}.layer_norm1", "layers/norm2": f"{layer}.layer_norm2"}
    if spec.pre_norm:
        norms["pre_norm"] = f"{tower}.pre_layrnorm"  # the class's own spelling
    if spec.post_norm:
        norms["post_norm"] = f"{tower}.post_layernorm"
    for name, theirs in norms.items():
        names[f"{ours}/{name}/scale"] = (f"{theirs}.weight", "same")
        names[f"{ours}/{name}/bias"] = (f"{theirs}.bias", "same")
    return names
