"""LLaVA-OneVision (arXiv 2408.03326) and LLaVA-Video: SigLIP, MLP, pooled frames, tiled stills.

Reference: transformers' LlavaOnevisionForConditionalGeneration. What differs from the LLaVA layout
is here; the rest is in `vjax.families.llava`.
"""

import dataclasses

from vjax.families import llava
from vjax.families.llava import file_name, is_unused, module_name, unused_weights
from vjax.families.spec import NO_TOKEN, ModelSpec, Placeholder, Release, TilesSpec

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
    f"llava_onevision_{name}": Release(f"llava-hf/llava-onevision-qwen2-{size}-ov-hf")
    for name, size in (("0_5b", "0.5b"), ("7b", "7b"), ("72b", "72b"))
}
POOL = 2  # frames keep a quarter of their tokens
ASPECT = "anyres_max_"
FIELDS = (
    "image_grid_pinpoints", "vision_aspect_ratio", "video_token_index", "video_token_id",
    "use_image_newline_parameter",
)  # fmt: skip


def spec(config: dict) -> ModelSpec:
    """Reads a LlavaOnevisionConfig; raises as `vjax.families.llava.spec`."""
    aspect = config.get("vision_aspect_ratio", f"{ASPECT}9")
    if not aspect.removeprefix(ASPECT).isdigit():
        raise ValueError(f"config.json: vision_aspect_ratio is {aspect!r}, not {ASPECT}NUMBER")
    full = {"vision_feature_select_strategy": "full"} | config  # this class's default
    read = llava.read(full, "llava_onevision", layer=-1, frame_token_id=NO_TOKEN, fields=FIELDS)
    return dataclasses.replace(
        read,
        projector=dataclasses.replace(read.projector, pool=POOL, newline=True, video_newline=True),
        video_token_id=config.get("video_token_id", config.get("video_token_index")),
        tiles=TilesSpec(
            tuple((h, w) for h, w in config["image_grid_pinpoints"]),
            int(aspect.removeprefix(ASPECT)),
            alone=True,
        ),
        pictures="tiles",
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    config = llava.config_json(spec)
    for name in ("frame_token_id", "image_seq_length"):
        del config[name]
    return config | {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "video_token_index": spec.video_token_id,
        "image_grid_pinpoints": [list(size) for size in spec.tiles.sizes],
        "vision_aspect_ratio": f"{ASPECT}{spec.tiles.most}",
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """A frame, and a view of one, is a video of its own, written into the text: this family's
    template would put it before all words. A line break is a frame's boundary."""
    video = Placeholder({"type": "video"}, spec.video_token_id)
    return {
        "frame": Placeholder({"type": "text", "text": "\n<video>"}, spec.video_token_id),
        "view": Placeholder({"type": "text", "text": "<video>"}, spec.video_token_id),
        "image": Placeholder({"type": "image"}, spec.image_token_id),
        "video": video,
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    return llava.weight_map(spec) | {"projector/newline": ("model.image_newline", "same")}
