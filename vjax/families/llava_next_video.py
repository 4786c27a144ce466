"""LLaVA-NeXT-Video: CLIP less its class token, pooled frames, tiled stills, Llama or Mistral.

Reference: transformers' LlavaNextVideoForConditionalGeneration (the LLaVA team's report of April
2024; stills as in LLaVA-NeXT). What differs from the LLaVA layout is here; the rest is in
`vjax.families.llava`.
"""

import dataclasses

from vjax.families import llava
from vjax.families.llava import file_name, is_unused, module_name, unused_weights
from vjax.families.spec import NO_TOKEN, ModelSpec, Placeholder, Release, TilesSpec
from vjax.families.text import filled

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
    "llava_next_video_7b": Release("llava-hf/LLaVA-NeXT-Video-7B-hf", image_size=336),
    "llava_next_video_7b_32k": Release("llava-hf/LLaVA-NeXT-Video-7B-32K-hf", image_size=336),
    "llava_next_video_34b": Release("llava-hf/LLaVA-NeXT-Video-34B-hf", image_size=336),
}
FIELDS = (
    "image_grid_pinpoints", "video_token_index", "video_token_id", "spatial_pool_mode",
    "spatial_pool_stride", "spatial_pool_out_channels", "video_seq_length",
    "use_image_newline_parameter",
)  # fmt: skip
SIZES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))  # the class's own
IMAGE, VIDEO = 32001, 32000  # the same


def spec(config: dict) -> ModelSpec:
    """Reads a LlavaNextVideoConfig; raises as `vjax.families.llava.spec`."""
    mode = config.get("spatial_pool_mode", "average")
    if mode != "average":
        raise ValueError(f"config.json: spatial_pool_mode is {mode!r}, not 'average'")
    given = {"image_token_index": IMAGE} | config | {"text_config": filled(config["text_config"])}
    read = llava.read(
        given, "llava_next_video", frame_token_id=NO_TOKEN, fields=FIELDS,
        tower="clip_vision_model", strategy="default",
    )  # fmt: skip
    projector = dataclasses.replace(
        read.projector,
        pool=config.get("spatial_pool_stride", 2),
        pool_kind="average",
        newline=True,
    )
    sizes = config.get("image_grid_pinpoints") or SIZES
    return dataclasses.replace(
        read,
        projector=projector,
        video_token_id=config.get("video_token_id", config.get("video_token_index", VIDEO)),
        tiles=TilesSpec(tuple((h, w) for h, w in sizes), crop=True),
        pictures="tiles",
        template_ends=False,
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    config = llava.config_json(spec)
    del config["frame_token_id"]
    return config | {
        "architectures": ["LlavaNextVideoForConditionalGeneration"],
        "model_type": "llava_next_video",
        "video_token_index": spec.video_token_id,
        "image_grid_pinpoints": [list(size) for size in spec.tiles.sizes],
        "spatial_pool_mode": "average",
        "spatial_pool_stride": spec.projector.pool,
        "video_seq_length": spec.frame_side**2,
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """A frame, and a view of one, is a video of its own, written into the text: this family's
    template would put it before all words. A line break is a frame's boundary."""
    return {
        "frame": Placeholder({"type": "text", "text": "\n<video>"}, spec.video_token_id),
        "view": Placeholder({"type": "text", "text": "<video>"}, spec.video_token_id),
        "image": Placeholder({"type": "image"}, spec.image_token_id),
        "video": Placeholder({"type": "video"}, spec.video_token_id),
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    return llava.weight_map(spec) | {"projector/newline": ("model.image_newline", "same")}
