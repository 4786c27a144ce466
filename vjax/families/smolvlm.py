"""SmolVLM2 (arXiv 2504.05299): SigLIP for pictures of any size, pixel shuffle, SmolLM2.

Reference: transformers' SmolVLMForConditionalGeneration.
"""

from vjax.families.fields import check_known
from vjax.families.spec import NO_TOKEN, ModelSpec, Placeholder, ProjectorSpec, Release
from vjax.families.text import (
    decoder_config,
    decoder_spec,
    decoder_unused,
    decoder_weights,
    end_and_pad,
    no_weights,
    same_name,
)
from vjax.families.vision import filled, tower_config, tower_spec, tower_weights

RELEASES = {
    "smolvlm2_256m": Release("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", 512),
    "smolvlm2_500m": Release("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 512),
    "smolvlm2_2b": Release("HuggingFaceTB/SmolVLM2-2.2B-Instruct", 384),
}
TOP = (
    "vision_config", "text_config", "image_token_id", "scale_factor", "tie_word_embeddings",
    "vocab_size",
)  # fmt: skip
# released files leave out what is the class's default
ABSENT = {
    "vision_config": filled({"model_type": "smolvlm_vision"}),
    "text_config": {"model_type": "llama", "num_attention_heads": 32, "eos_token_id": 2},
}
# and hold what only the code read that they were trained with
UNREAD = {
    "vision_config": ("max_image_size", "size", "use_base_siglip"),
    "text_config": (
        "perceiver_config", "pixel_shuffle_factor", "qk_layer_norms", "use_resampler",
        "neftune_noise_alpha", "rope_interleaved",
    ),
}  # fmt: skip
SQUARE = "<fake_token_around_image><global-img><image><fake_token_around_image>"


def spec(config: dict) -> ModelSpec:
    """Reads a SmolVLMConfig; raises as `vjax.families.llava.spec`."""
    check_known(config, TOP)
    vision, text = (
        ABSENT[part] | {k: v for k, v in config[part].items() if k not in UNREAD[part]}
        for part in ("vision_config", "text_config")
    )
    merge = config.get("scale_factor", 2)
    side = vision["image_size"] // vision["patch_size"]
    if side % merge:
        raise ValueError(
            f"config.json: scale_factor is {merge}, a picture has {side} patches along a side"
        )
    end, pad = end_and_pad(text)
    return ModelSpec(
        family="smolvlm",
        vision=tower_spec(vision, merge=merge, table_side=side),
        projector=ProjectorSpec(kind="linear", merge=merge),
        text=decoder_spec(
            text, tied=bool(config.get("tie_word_embeddings", False)), where="text_config."
        ),
        image_token_id=config["image_token_id"],
        frame_token_id=NO_TOKEN,
        end_token_id=end,
        pad_token_id=pad,
        pictures="split",
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision = tower_config(spec.vision)
    if spec.vision.image_size // spec.vision.patch_size != spec.vision.table_side:
        vision["image_size"] = spec.vision.table_side * spec.vision.patch_size
    return {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "image_token_id": spec.image_token_id,
        "scale_factor": spec.projector.merge,
        "tie_word_embeddings": spec.text.tied,
        "pad_token_id": spec.pad_token_id,
        "vision_config": vision,
        "text_config": decoder_config(spec.text)
        | {"eos_token_id": spec.end_token_id, "pad_token_id": spec.pad_token_id},
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """A frame is a square after a line break, without a number or a time.

    Released templates do not know videos; transformers puts one of its own in their place, which
    writes `<video>`.
    """
    image = spec.image_token_id
    return {
        "frame": Placeholder({"type": "text", "text": f"\n{SQUARE}"}, image),
        "view": Placeholder({"type": "text", "text": SQUARE}, image),
        "image": Placeholder({"type": "image"}, image),
        "video": Placeholder({"type": "text", "text": "<video>"}, image, "<video>"),
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    names = tower_weights(spec.vision, "model.vision_model")
    names["projector/fc1/kernel"] = ("model.connector.modality_projection.proj.weight", "linear")
    return names | decoder_weights(spec.text, "model.text_model")


module_name = file_name = same_name
unused_weights = no_weights


def is_unused(spec: ModelSpec, name: str) -> bool:
    """Whether a file may hold the tensor though the model does not use it."""
    return name == "model.vision_model.embeddings.position_ids" or decoder_unused(spec.text, name)
