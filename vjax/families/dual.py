"""Two towers of one space, for images and for texts: CLIP, SigLIP and SigLIP 2, whole checkpoints.

Reference: transformers' CLIPModel (arXiv 2103.00020), SiglipModel (arXiv 2303.15343; SigLIP 2 of a
fixed size too) and Siglip2Model (arXiv 2502.14786, NaFlex: images keep their shape).
"""

import dataclasses
import re
import types

from vjax.families.fields import check_known
from vjax.families.spec import Placeholder, TowerSpec
from vjax.families.text import linear, no_weights, same_name
from vjax.families.vision import tower_config, tower_spec, tower_weights


@dataclasses.dataclass(frozen=True)
class TextTowerSpec:
    """A pre-norm transformer over tokens, with a table of positions and a norm after.

    Attributes:
      length: tokens that it has positions for.
      end: id of the token that CLIP takes a text's features from, the first of them; 2 stands for
        the largest id, as in its first releases.
      pad: id that fills a text.
    """

    width: int
    layers: int
    heads: int
    ffn: int
    vocab: int
    length: int
    act: str
    norm_eps: float
    end: int
    pad: int


@dataclasses.dataclass(frozen=True)
class DualSpec:
    """An image tower and a text tower.

    Attributes:
      family: model_type of config.json: clip, siglip or siglip2.
      embed: width of the space that both come to.
      sigmoid: SigLIP's: an image's features are pooled by attention, a text's are its last token's,
        and logits have a bias. Else CLIP's: the class token's and the end's, the text tower causal.
    """

    family: str
    vision: TowerSpec
    text: TextTowerSpec
    embed: int
    sigmoid: bool


TEXT = types.MappingProxyType(
    {
        "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 64,
        "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "eos_token_id": 49407,
        "pad_token_id": 1,
    }
)  # fmt: skip
# model_type -> class, its image tower, and the texts' config where its file says nothing
KINDS = types.MappingProxyType(
    {
        "clip": (
            "CLIPModel",
            "clip_vision_model",
            {
                **TEXT, "model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 512,
                "intermediate_size": 2048, "num_attention_heads": 8, "layer_norm_eps": 1e-5,
                "max_position_embeddings": 77, "hidden_act": "quick_gelu",
            },
        ),
        "siglip": (
            "SiglipModel",
            "siglip_vision_model",
            {**TEXT, "model_type": "siglip_text_model"},
        ),
        "siglip2": (
            "Siglip2Model",
            "siglip2_vision_model",
            {**TEXT, "model_type": "siglip2_text_model"},
        ),
    }
)  # fmt: skip
TOP = (
    "vision_config", "text_config", "vision_config_dict", "text_config_dict", "projection_dim",
    "logit_scale_init_value", "initializer_factor",
)  # fmt: skip
FIELDS = (
    *TEXT, "projection_dim", "projection_size", "initializer_factor", "tie_word_embeddings",
)  # fmt: skip


def spec(config: dict) -> DualSpec:
    """Reads a CLIPConfig, SiglipConfig or Siglip2Config.

    Raises:
      ValueError: a setting that is not read, with its name.
    """
    family = config["model_type"]
    _, tower, words = KINDS[family]
    absent = {"model_type": tower}, words
    check_known(config, TOP)
    vision, text = (
        # older files hold the settings of a tower twice; these count then
        default | (config.get(f"{name}_config_dict") or config.get(f"{name}_config") or {})
        for name, default in zip(("vision", "text"), absent, strict=True)
    )
    for name, got, default in zip(("vision", "text"), (vision, text), absent, strict=True):
        if got["model_type"] != default["model_type"]:
            raise ValueError(
                f"config.json: {name}_config.model_type is {got['model_type']!r}, the {family} "
                f"family reads {default['model_type']!r}"
            )
    check_known(text, FIELDS, "text_config.")
    if not vision.get("vision_use_head", True):
        raise ValueError("config.json: vision_config.vision_use_head is False: there is no head")
    sigmoid = family != "clip"
    images = tower_spec(vision, post_norm=True, keep_class=not sigmoid)
    embed = config.get("projection_dim", 512)
    if sigmoid:
        embed = text.get("projection_size") or text["hidden_size"]
        if embed != images.width:
            raise ValueError(
                f"config.json: texts come to {embed} numbers (text_config.projection_size), images "
                f"to {images.width} (vision_config.hidden_size)"
            )
    end, pad = text["eos_token_id"], text["pad_token_id"]
    return DualSpec(
        family=family,
        vision=images,
        text=TextTowerSpec(
            width=text["hidden_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            ffn=text["intermediate_size"],
            vocab=text["vocab_size"],
            length=text["max_position_embeddings"],
            act=text["hidden_act"],
            norm_eps=text["layer_norm_eps"],
            end=end[0] if isinstance(end, list) else end,
            pad=pad,
        ),
        embed=embed,
        sigmoid=sigmoid,
    )


def config_json(spec: DualSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    name, vision, text = KINDS[spec.family]
    words = spec.text
    config = {
        "architectures": [name],
        "model_type": spec.family,
        "vision_config": tower_config(spec.vision),
        "text_config": {
            "model_type": text["model_type"],
            "hidden_size": words.width,
            "num_hidden_layers": words.layers,
            "num_attention_heads": words.heads,
            "intermediate_size": words.ffn,
            "vocab_size": words.vocab,
            "max_position_embeddings": words.length,
            "hidden_act": words.act,
            "layer_norm_eps": words.norm_eps,
            "eos_token_id": words.end,
            "pad_token_id": words.pad,
        },
    }
    if spec.sigmoid:
        config["vision_config"]["vision_use_head"] = True
        config["text_config"]["projection_size"] = spec.embed
    else:
        config["projection_dim"] = spec.embed
    return config


def placeholders(spec: DualSpec) -> dict[str, Placeholder]:
    """None: it has no conversation."""
    return {}


def weight_map(spec: DualSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    names = tower_weights(spec.vision, "vision_model")
    text = "text_model"
    names |= {
        "words/embed": (f"{text}.embeddings.token_embedding.weight", "same"),
        "words/position": (f"{text}.embeddings.position_embedding.weight", "same"),
        "log_scale": ("logit_scale", "same"),
    }
    # the blocks of the text tower are named as those of the other
    names |= {
        path.replace("tower/", "words/", 1): (name.replace("vision_model", text, 1), layout)
        for path, (name, layout) in names.items()
        if path.startswith("tower/layers/")
    }
    norms = {"words/norm": f"{text}.final_layer_norm"}
    if spec.sigmoid:
        head = "vision_model.head"
        names |= {
            "pool/probe": (f"{head}.probe", "same"),
            "pool/qkv/kernel": (f"{head}.attention.in_proj_weight", "linear"),
            "pool/qkv/bias": (f"{head}.attention.in_proj_bias", "same"),
            "bias": ("logit_bias", "same"),
        }
        linear(names, "pool/o", f"{head}.attention.out_proj", bias=True)
        for layer in ("fc1", "fc2"):
            linear(names, f"pool/mlp/{layer}", f"{head}.mlp.{layer}", bias=True)
        linear(names, "text_head", f"{text}.head", bias=True)
        norms["pool/norm"] = f"{head}.layernorm"
    else:
        linear(names, "image_head", "visual_projection", bias=False)
        linear(names, "text_head", "text_projection", bias=False)
    for ours, theirs in norms.items():
        names[f"{ours}/scale"] = (f"{theirs}.weight", "same")
        names[f"{ours}/bias"] = (f"{theirs}.bias", "same")
    return names


module_name = file_name = same_name
unused_weights = no_weights


def is_unused(spec: DualSpec, name: str) -> bool:
    """Old files hold the numbers of positions."""
    return bool(re.fullmatch(r"(vision|text)_model\.embeddings\.position_ids", name))
