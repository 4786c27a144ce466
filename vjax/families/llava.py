"""The LLaVA layout: SigLIP tower, two-layer projector, Qwen2 decoder.

Reference: transformers' LlavaForConditionalGeneration, with one key of our own in config.json:
`frame_token_id`, the boundary token that precedes each frame.
"""

import re

import numpy as np

from vjax.families.fields import check_known, check_values
from vjax.families.spec import ModelSpec, Placeholder, ProjectorSpec
from vjax.families.text import (
    decoder_config,
    decoder_spec,
    decoder_unused,
    decoder_weights,
    end_and_pad,
    linear,
)
from vjax.families.vision import filled, tower_config, tower_spec, tower_weights

TOP = (
    "vision_config", "text_config", "image_token_index", "image_token_id", "image_seq_length",
    "projector_hidden_act", "multimodal_projector_bias", "tie_word_embeddings", "ignore_index",
    "vision_feature_layer", "vision_feature_select_strategy", "frame_token_id",
)  # fmt: skip


def spec(config: dict) -> ModelSpec:
    """Reads a LlavaConfig as transformers writes it.

    Args:
      config: the parsed config.json.

    Raises:
      ValueError: a setting that this layout does not know, with its name.
      KeyError: one that is missing.
    """
    return read(config, "llava", frame_token_id=config["frame_token_id"])


def read(
    config: dict, family: str, *, layer: int = -2, frame_token_id: int,
    fields: tuple[str, ...] = (), tower: str = "siglip_vision_model", strategy: str = "full",
) -> ModelSpec:  # fmt: skip
    """What the LLaVA layouts share.

    Args:
      layer: the class's default vision_feature_layer.
      tower: model_type of its tower; strategy: its vision_feature_select_strategy, `full` or, less
        a class token, `default`. A config that asks for others is refused.
      fields: of config.json that the family reads beside those that all do.

    Raises:
      KeyError: a size that is missing.
      ValueError: as `spec`.
    """
    required = (
        ("vision_config", "model_type", None, tower),
        ("", "vision_feature_select_strategy", "default", strategy),
        ("", "multimodal_projector_bias", True, True),
    )
    check_values(config, required, family)
    vision, text = filled(config["vision_config"]), config["text_config"]
    check_known(config, (*TOP, *fields))
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    select_layer = selected_layer(config, layer, vision["num_hidden_layers"])
    end, pad = end_and_pad(text)
    return ModelSpec(
        family=family,
        vision=tower_spec(vision, select_layer=select_layer),
        projector=ProjectorSpec(kind="mlp2", act=config.get("projector_hidden_act", "gelu")),
        text=decoder_spec(text, tied=bool(tied), where="text_config."),
        image_token_id=config.get("image_token_id", config.get("image_token_index")),
        frame_token_id=frame_token_id,
        end_token_id=end,
        pad_token_id=pad,
    )


def selected_layer(config: dict, absent: int, layers: int) -> int:
    """`vision_feature_layer`, counted from the end: `TowerSpec.select_layer`.

    Raises:
      ValueError: several layers.
    """
    layer = config.get("vision_feature_layer", absent)
    if not isinstance(layer, int):
        raise ValueError(f"config.json: vision_feature_layer is {layer!r}, not one layer")
    return layer if layer < 0 else layer - layers - 1


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision, text = spec.vision, spec.text
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": spec.image_token_id,
        "frame_token_id": spec.frame_token_id,
        "image_seq_length": vision.patches,
        "projector_hidden_act": spec.projector.act,
        "multimodal_projector_bias": True,
        "tie_word_embeddings": text.tied,
        "vision_feature_layer": vision.select_layer,
        "vision_feature_select_strategy": "default" if vision.class_token else "full",
        "vision_config": tower_config(vision),
        "text_config": decoder_config(text)
        | {
            "bos_token_id": None,
            "eos_token_id": spec.end_token_id,
            "pad_token_id": spec.pad_token_id,
        },
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """Templates of this layout know `frame`, a boundary token and an image, beside `image`."""
    return {kind: Placeholder({"type": kind}, spec.image_token_id) for kind in ("frame", "image")}


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); names are those of transformers 5's modules.

    `{}` in a name stands for the layer; such entries stack over layers. Layouts: `same`, `linear`
    (torch [out, in], ours [in, out]), `conv` (torch [D, C, h, w], ours [h*w*C, D]).
    """
    names = tower_weights(spec.vision, "model.vision_tower")
    linear(names, "projector/fc1", "model.multi_modal_projector.linear_1", bias=True)
    linear(names, "projector/fc2", "model.multi_modal_projector.linear_2", bias=True)
    return names | decoder_weights(spec.text, "model.language_model")


def module_name(name: str) -> str:
    """A tensor name as any transformers release saved it -> its name in transformers 5's modules.

    Files hold `language_model.model.layers...` and `vision_tower.vision_model...` (4.x before 4.52,
    and what is published), `model.language_model...` (from 4.52 on), or, as 5.x saves them,
    `language_model.model...` with `vision_tower...` less its inner level.
    """
    name = re.sub(r"^language_model\.model\.", "model.language_model.", name)
    name = re.sub(r"^language_model\.lm_head\.", "lm_head.", name)
    name = re.sub(r"^(vision_tower\.|multi_modal_projector\.|image_newline$)", r"model.\1", name)
    return name.replace("model.vision_tower.vision_model.", "model.vision_tower.")


def file_name(name: str) -> str:
    """The other way: a module's tensor name -> the published one, which every release loads."""
    name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
    name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
    name = re.sub(r"^model\.vision_tower\.", "vision_tower.vision_model.", name)
    return name.removeprefix("model.")


def is_unused(spec: ModelSpec, name: str) -> bool:
    """Whether a file may hold the tensor (by module name) though the model does not use it.

    Features are taken before the tower's final norm and pooling head; a tied head is the embedding.
    """
    tower = r"model\.vision_tower\.(post_layernorm|head|embeddings\.position_ids)\b.*"
    return bool(re.fullmatch(tower, name)) or decoder_unused(spec.text, name)


def unused_weights(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Tensors (by module name) that transformers misses in a file though they change nothing."""
    norm = "model.vision_tower.post_layernorm"
    one = np.ones(spec.vision.width, np.float32)
    return {f"{norm}.weight": one, f"{norm}.bias": 0 * one}
