"""Which family a checkpoint folder belongs to."""

import pathlib
import types

from vjax.families import (
    causal,
    dual,
    internvl,
    llava,
    llava_next_video,
    llava_onevision,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
    smolvlm,
    text,
    video_llama_3,
    video_llava,
    videollama2,
)
from vjax.families.dual import DualSpec
from vjax.families.fields import read_json
from vjax.families.spec import ModelSpec, Release

FAMILIES: dict[str, types.ModuleType] = {
    "internvl": internvl,
    "llava": llava,
    "llava_next_video": llava_next_video,
    "llava_onevision": llava_onevision,
    "qwen2_vl": qwen2_vl,
    "smolvlm": smolvlm,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "video_llama_3": video_llama_3,
    "video_llava": video_llava,
    **dict.fromkeys(videollama2.TYPES, videollama2),
    **dict.fromkeys(text.KINDS, causal),
    **dict.fromkeys(dual.KINDS, dual),
}


# preset of SF2T -> what it runs on
RELEASES: dict[str, Release] = {
    preset: release
    for family in FAMILIES.values()
    for preset, release in getattr(family, "RELEASES", {}).items()
}


# model_type of the authors' own code -> families that read these models in transformers' layout
OWN: dict[str, tuple[types.ModuleType, ...]] = {
    "internvl_chat": (internvl,),
    "llava_qwen": (llava_onevision,),
    "llava_llama": (llava_next_video, video_llava),
    "llava_mistral": (llava_next_video,),
    "videollama3_qwen2": (video_llama_3,),
}


def family_of(model_type: str) -> types.ModuleType:
    """The family module for a config.json `model_type`.

    Raises:
      ValueError: an unknown `model_type`, with the list of known ones.
    """
    if model_type in OWN:
        read = [release.hub for family in OWN[model_type] for release in family.RELEASES.values()]
        raise ValueError(
            f"config.json: model_type {model_type!r} is the layout of the authors' own code; take "
            f"the same model in transformers' layout, of {', '.join(read)}"
        )
    if model_type not in FAMILIES:
        raise ValueError(
            f"config.json: model_type {model_type!r} is not known; "
            f"known: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def read_spec(folder: str | pathlib.Path) -> ModelSpec | DualSpec:
    """The model spec of a Hugging-Face-style checkpoint folder; raises as `spec_of`."""
    path = pathlib.Path(folder) / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no config.json; a checkpoint is a Hugging-Face-style folder"
        )
    config = read_json(path)
    try:
        return spec_of(config)
    except ValueError as error:
        raise ValueError(str(error).replace("config.json", str(path), 1)) from None


def spec_of(config: dict) -> ModelSpec | DualSpec:
    """The model spec of a parsed config.json.

    Raises:
      ValueError: an unknown `model_type`, a setting that is missing, of another type than it
        should be, or not read.
    """
    try:
        return family_of(config.get("model_type", "")).spec(config)
    except KeyError as error:
        raise ValueError(f"config.json: {error.args[0]!r} is missing") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"config.json: a setting is of the wrong type ({error})") from None
