"""The LLaVA layout: SigLIP tower, two-layer projector, Qwen2 decoder.

Reference: transformers' LlavaForConditionalGeneration, with one key of our own in config.json:
`frame_token_id`, the boundary token that precedes each frame.
"""

import re

import numpy as np

from vjax.families.spec import DecoderSpec, ModelSpec, ProjectorSpec, TowerSpec

# what the modules here compute; a config that asks for something else is refused
# (part, key, the value where the key is absent, the value that is read)
REQUIRED = (
    ("vision_config", "model_type", None, "siglip_vision_model"),
    ("vision_config", "num_channels", 3, 3),
    ("text_config", "model_type", None, "qwen2"),
    ("text_config", "hidden_act", "silu", "silu"),
    ("text_config", "use_sliding_window", False, False),
    ("", "vision_feature_select_strategy", "default", "full"),
    ("", "multimodal_projector_bias", True, True),
)


def spec(config: dict) -> ModelSpec:
    """Reads a LlavaConfig as transformers writes it.

    Args:
      config: the parsed config.json.

    Raises:
      ValueError: a setting that this layout does not know, with its name, or one that is missing.
    """
    try:
        return _spec(config)
    except KeyError as error:
        raise ValueError(f"config.json: {error.args[0]!r} is missing") from None


def _spec(config: dict) -> ModelSpec:
    for part, key, absent, want in REQUIRED:
        found = (config[part] if part else config).get(key, absent)
        if found != want:
            name = f"{part}.{key}" if part else key
            raise ValueError(f"config.json: {name} is {found!r}, the llava family reads {want!r}")
    vision, text = config["vision_config"], config["text_config"]
    heads = text["num_attention_heads"]
    rope = text.get("rope_parameters") or {"rope_theta": text.get("rope_theta", 10_000.0)}
    if rope.get("rope_type", "default") != "default" or text.get("rope_scaling"):
        raise ValueError("config.json: text_config scales its rotary positions, which is not read")
    select_layer = config.get("vision_feature_layer", -2)
    if not isinstance(select_layer, int):
        raise ValueError(f"config.json: vision_feature_layer is {select_layer!r}, not one layer")
    if select_layer >= 0:
        select_layer -= vision["num_hidden_layers"] + 1
    return ModelSpec(
        family="llava",
        vision=TowerSpec(
            width=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            ffn=vision["intermediate_size"],
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            act=vision.get("hidden_act", "gelu_pytorch_tanh"),
            norm_eps=vision.get("layer_norm_eps", 1e-6),
            select_layer=select_layer,
        ),
        projector=ProjectorSpec(kind="mlp2", act=config.get("projector_hidden_act", "gelu")),
        text=DecoderSpec(
            width=text["hidden_size"],
            layers=text["num_hidden_layers"],
            heads=heads,
            kv_heads=text["num_key_value_heads"],
            head_dim=text.get("head_dim") or text["hidden_size"] // heads,
            ffn=text["intermediate_size"],
            vocab=text["vocab_size"],
            rope_theta=rope["rope_theta"],
            norm_eps=text.get("rms_norm_eps", 1e-6),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        ),
        image_token_id=config.get("image_token_id", config.get("image_token_index")),
        frame_token_id=config["frame_token_id"],
        end_token_id=text["eos_token_id"],
        pad_token_id=text["pad_token_id"],
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision, text = spec.vision, spec.text
    if not text.qkv_bias:
        raise ValueError("Qwen2 has biases on q, k and v: text.qkv_bias must be true")
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
        "vision_feature_select_strategy": "full",
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "intermediate_size": vision.ffn,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_channels": 3,
            "hidden_act": vision.act,
            "layer_norm_eps": vision.norm_eps,
            "vision_use_head": False,
        },
        "text_config": {
            "model_type": "qwen2",
            "hidden_size": text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "head_dim": text.head_dim,
            "intermediate_size": text.ffn,
            "vocab_size": text.vocab,
            "hidden_act": "silu",
            "rope_parameters": {"rope_type": "default", "rope_theta": text.rope_theta},
            "rms_norm_eps": text.norm_eps,
            "tie_word_embeddings": text.tied,
            "use_sliding_window": False,
            "bos_token_id": None,
            "eos_token_id": spec.end_token_id,
            "pad_token_id": spec.pad_token_id,
        },
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); names are those of transformers 5's modules.

    `{}` in a name stands for the layer; such entries stack over layers. Layouts: `same`, `linear`
    (torch [out, in], ours [in, out]), `conv` (torch [D, C, h, w], ours [h*w*C, D]).
    """
    tower, text = "model.vision_tower", "model.language_model"
    names: dict[str, tuple[str, str]] = {
        "tower/patch/kernel": (f"{tower}.embeddings.patch_embedding.weight", "conv"),
        "tower/patch/bias": (f"{tower}.embeddings.patch_embedding.bias", "same"),
        "tower/position": (f"{tower}.embeddings.position_embedding.weight", "same"),
        "decoder/embed": (f"{text}.embed_tokens.weight", "same"),
        "decoder/norm/scale": (f"{text}.norm.weight", "same"),
    }

    def linear(ours: str, theirs: str, bias: bool = True):
        names[f"{ours}/kernel"] = (f"{theirs}.weight", "linear")
        if bias:
            names[f"{ours}/bias"] = (f"{theirs}.bias", "same")

    layer = f"{tower}.encoder.layers.{{}}"
    for ours, theirs in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "out_proj")):
        linear(f"tower/layers/attn/{ours}", f"{layer}.self_attn.{theirs}")
    for ours in ("fc1", "fc2"):
        linear(f"tower/layers/mlp/{ours}", f"{layer}.mlp.{ours}")
    for ours, theirs in (("norm1", "layer_norm1"), ("norm2", "layer_norm2")):
        names[f"tower/layers/{ours}/scale"] = (f"{layer}.{theirs}.weight", "same")
        names[f"tower/layers/{ours}/bias"] = (f"{layer}.{theirs}.bias", "same")

    linear("projector/fc1", "model.multi_modal_projector.linear_1")
    linear("projector/fc2", "model.multi_modal_projector.linear_2")

    layer = f"{text}.layers.{{}}"
    for ours in ("q", "k", "v", "o"):
        bias = spec.text.qkv_bias and ours != "o"
        linear(f"decoder/layers/attn/{ours}", f"{layer}.self_attn.{ours}_proj", bias)
    for ours in ("gate", "up", "down"):
        linear(f"decoder/layers/mlp/{ours}", f"{layer}.mlp.{ours}_proj", bias=False)
    names["decoder/layers/norm1/scale"] = (f"{layer}.input_layernorm.weight", "same")
    names["decoder/layers/norm2/scale"] = (f"{layer}.post_attention_layernorm.weight", "same")
    if not spec.text.tied:
        names["decoder/head"] = ("lm_head.weight", "linear")
    return names


def module_name(name: str) -> str:
    """A tensor name as any transformers release saved it -> its name in transformers 5's modules.

    Files hold `language_model.model.layers...` and `vision_tower.vision_model...` (4.x before 4.52,
    and what is published), `model.language_model...` (from 4.52 on), or, as 5.x saves them,
    `language_model.model...` with `vision_tower...` less its inner level.
    """
    name = re.sub(r"^language_model\.model\.", "model.language_model.", name)
    name = re.sub(r"^language_model\.lm_head\.", "lm_head.", name)
    name = re.sub(r"^(vision_tower|multi_modal_projector)\.", r"model.\1.", name)
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
    if spec.text.tied and name == "lm_head.weight":
        return True
    tower = r"model\.vision_tower\.(post_layernorm|head|embeddings\.position_ids)\b.*"
    return bool(re.fullmatch(rf"{tower}|.*\.rotary_emb\.inv_freq", name))


def unused_weights(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Tensors (by module name) that transformers misses in a file though they change nothing."""
    norm = "model.vision_tower.post_layernorm"
    one = np.ones(spec.vision.width, np.float32)
    return {f"{norm}.weight": one, f"{norm}.bias": 0 * one}
