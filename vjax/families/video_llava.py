"""Video-LLaVA (arXiv 2311.10122): two towers of CLIP's shape, for images and for videos, Vicuna.

Reference: transformers' VideoLlavaForConditionalGeneration. What differs from the LLaVA layout is
here; the rest is in `vjax.families.llava`. A video is eight frames, each with its class token; an
image has none.
"""

import dataclasses
import re

import numpy as np

from vjax.families import llava
from vjax.families.spec import NO_TOKEN, ModelSpec, Placeholder, Release
from vjax.families.text import decoder_unused, decoder_weights, filled
from vjax.families.vision import tower_weights

RELEASES = {
    "video_llava_7b": Release("LanguageBind/Video-LLaVA-7B-hf", counting=False),
}
FRAMES = 8  # of every video that it was trained on
FIELDS = ("video_token_index", "video_token_id", "video_seq_length")
IMAGE, VIDEO = 32000, 32001  # the class's own
TOWERS = {"tower": "video_tower", "still_tower": "image_tower"}


def spec(config: dict) -> ModelSpec:
    """Reads a VideoLlavaConfig; raises as `vjax.families.llava.spec`."""
    given = {"image_token_index": IMAGE} | config | {"text_config": filled(config["text_config"])}
    read = llava.read(
        given, "video_llava", frame_token_id=NO_TOKEN, fields=FIELDS,
        tower="clip_vision_model", strategy="default",
    )  # fmt: skip
    return dataclasses.replace(
        read,
        vision=dataclasses.replace(read.vision, keep_class=True),
        still_vision=read.vision,
        video_token_id=config.get("video_token_id", config.get("video_token_index", VIDEO)),
        pictures="middles",
        template_ends=False,
        video_frames=FRAMES,
        uncountable=f"its videos are {FRAMES} frames, however many are shown",
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    config = llava.config_json(spec)
    del config["frame_token_id"]
    return config | {
        "architectures": ["VideoLlavaForConditionalGeneration"],
        "model_type": "video_llava",
        "video_token_index": spec.video_token_id,
        "video_seq_length": spec.video_frames * spec.vision.features,
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """Frames follow each other, as those of one video; a view of one is an image. Both are written
    into the text: this family's template would put them before all words."""
    return {
        "frame": Placeholder({"type": "text", "text": "<video>"}, spec.video_token_id),
        "view": Placeholder({"type": "text", "text": "<image>"}, spec.image_token_id),
        "image": Placeholder({"type": "image"}, spec.image_token_id),
        "video": Placeholder({"type": "video"}, spec.video_token_id),
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    names = {k: v for k, v in llava.weight_map(spec).items() if k.startswith("projector/")}
    for ours, theirs in TOWERS.items():
        names |= tower_weights(spec.vision, f"model.{theirs}", ours)
    return names | decoder_weights(spec.text, "model.language_model")


def module_name(name: str) -> str:
    """A tensor name as any release saved it -> its name in transformers 5's modules."""
    name = re.sub(r"^(image_tower|video_tower)\.", r"model.\1.", llava.module_name(name))
    return re.sub(r"^(model\.(image|video)_tower)\.vision_model\.", r"\1.", name)


def file_name(name: str) -> str:
    """The other way: a module's tensor name -> the published one, which every release loads."""
    name = re.sub(r"^model\.((image|video)_tower)\.", r"\1.vision_model.", name)
    return llava.file_name(name)


def is_unused(spec: ModelSpec, name: str) -> bool:
    """Whether a file may hold the tensor (by module name) though the model does not use it.

    Features are taken before the towers' final norms.
    """
    tower = r"model\.(image|video)_tower\.(post_layernorm|embeddings\.position_ids)\b.*"
    return bool(re.fullmatch(tower, name)) or decoder_unused(spec.text, name)


def unused_weights(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Tensors (by module name) that transformers misses in a file though they change nothing."""
    one = np.ones(spec.vision.width, np.float32)
    norms = [f"model.{tower}.post_layernorm" for tower in TOWERS.values()]
    return {f"{n}.{k}": v for n in norms for k, v in (("weight", one), ("bias", 0 * one))}
