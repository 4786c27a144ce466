"""VideoLLaMA3 (arXiv 2501.13106): SigLIP with rotary positions, for any size, MLP, Qwen2.

Reference: transformers' VideoLlama3ForConditionalGeneration.
"""

from vjax.families.fields import check_known
from vjax.families.spec import NO_TOKEN, ModelSpec, Placeholder, ProjectorSpec, Release
from vjax.families.text import (
    decoder_config,
    decoder_spec,
    decoder_weights,
    end_and_pad,
    linear,
    no_weights,
    same_name,
    unused_by_decoder,
)
from vjax.families.vision import tower_config, tower_spec, tower_weights

RELEASES = {
    "videollama3_2b": Release("lkhl/VideoLLaMA3-2B-Image-HF"),
    "videollama3_7b": Release("lkhl/VideoLLaMA3-7B-Image-HF"),
}
IMAGE_SIZE = 224  # of square frames where nothing else is asked for; any multiple of 28 will do
IMAGE, VIDEO, VIDEO_TEXT = 151655, 151656, "<|video_pad|>"
MERGE = 2  # frames keep a quarter of their tokens, by the mean of each block
VISION_THETA = 10_000.0
TYPE = "video_llama_3_vision"
TOP = ("vision_config", "text_config", "image_token_id", "video_token_id", "tie_word_embeddings")
FEW = ("image_size", "vision_use_head")  # of SigLIP's config, which this class has not


def spec(config: dict) -> ModelSpec:
    """Reads a VideoLlama3Config; raises as `vjax.families.llava.spec`."""
    check_known(config, TOP)
    vision, text = dict(config["vision_config"]), config["text_config"]
    rope = vision.pop("rope_parameters", None) or {}
    if (kind := vision.get("model_type", TYPE)) != TYPE:
        raise ValueError(f"config.json: vision_config.model_type is {kind!r}, not {TYPE!r}")
    if (kind := rope.get("rope_type", "axial")) != "axial":
        raise ValueError(f"config.json: vision_config.rope_type is {kind!r}, not 'axial'")
    tower = tower_spec(
        vision | {"model_type": "siglip_vision_model", "image_size": IMAGE_SIZE},
        position="rope2d",
        rope_theta=rope.get("rope_theta", VISION_THETA),
        merge=MERGE,
        post_norm=True,
    )
    tied = config.get("tie_word_embeddings") or text.get("tie_word_embeddings", False)
    end, pad = end_and_pad(text)
    return ModelSpec(
        family="video_llama_3",
        vision=tower,
        projector=ProjectorSpec(kind="block_mean", merge=MERGE),
        text=decoder_spec(text, tied=bool(tied), where="text_config."),
        image_token_id=config.get("image_token_id", IMAGE),
        video_token_id=config.get("video_token_id", VIDEO),
        frame_token_id=NO_TOKEN,
        end_token_id=end,
        pad_token_id=pad,
        pictures="pruned",
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    vision = {k: v for k, v in tower_config(spec.vision).items() if k not in FEW}
    rope = {"rope_type": "axial", "rope_theta": spec.vision.rope_theta}
    return {
        "architectures": ["VideoLlama3ForConditionalGeneration"],
        "model_type": "video_llama_3",
        "image_token_id": spec.image_token_id,
        "video_token_id": spec.video_token_id,
        "tie_word_embeddings": spec.text.tied,
        "vision_config": vision | {"model_type": TYPE, "rope_parameters": rope},
        "text_config": decoder_config(spec.text)
        | {"eos_token_id": spec.end_token_id, "pad_token_id": spec.pad_token_id},
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """A frame, and a view of one, is a video of its own, without a time; a line break is a frame's
    boundary."""
    return {
        "frame": Placeholder({"type": "text", "text": f"\n{VIDEO_TEXT}"}, spec.video_token_id),
        "view": Placeholder({"type": "text", "text": VIDEO_TEXT}, spec.video_token_id),
        "image": Placeholder({"type": "image"}, spec.image_token_id),
        "video": Placeholder({"type": "video"}, spec.video_token_id),
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    names = tower_weights(spec.vision, "model.vision_model")
    linear(names, "projector/fc1", "model.projector.readout.0", bias=True)
    linear(names, "projector/fc2", "model.projector.readout.2", bias=True)
    return names | decoder_weights(spec.text, "model.language_model")


module_name = file_name = same_name
is_unused = unused_by_decoder
unused_weights = no_weights
