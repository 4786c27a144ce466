"""VideoLLaMA2 and 2.1 (arXiv 2406.07476): CLIP or SigLIP, the STC connector, Mistral or Qwen2.

transformers has no class of it; files are read as their authors released them. Two keys of
config.json are ours: `vision_config`, which theirs leave to the tower's name, and
`video_token_id`, the token whose places videos take.
"""

import re

import numpy as np

from vjax.families import text
from vjax.families.fields import check_known
from vjax.families.spec import NO_TOKEN, ModelSpec, Placeholder, ProjectorSpec, Release
from vjax.families.vision import tower_config, tower_spec, tower_weights

RELEASES = {
    "videollama2_7b": Release("DAMO-NLP-SG/VideoLLaMA2-7B", image_size=336),
    "videollama2_7b_16f": Release("DAMO-NLP-SG/VideoLLaMA2-7B-16F", image_size=336),
    "videollama2_1_7b_16f": Release("DAMO-NLP-SG/VideoLLaMA2.1-7B-16F", image_size=384),
    "videollama2_72b": Release("DAMO-NLP-SG/VideoLLaMA2-72B", image_size=336),
}
PREFIX = "videollama2_"  # of model_type, before the decoder's
# Their code marks a video by a number that is no token. Here it is a special token of the decoder's
# tokenizer that no text holds: (text, id)
TOKENS = {"mistral": ("<unk>", 0), "qwen2": ("<|endoftext|>", 151643)}
TYPES = tuple(PREFIX + kind for kind in TOKENS)  # values of model_type
CONNECTORS = {"stc_connector": 1, "stc_connector_v35": 0}  # what the convolution is padded by
STRIDE, DEPTH, FRAMES = (2, 2, 2), 4, 8
TOWERS = {
    "openai/clip-vit-large-patch14-336": {
        "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
    },
    "google/siglip-so400m-patch14-384": {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
        "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
    },
}  # fmt: skip
OURS = ("vision_config", "video_token_id")
READ = (
    "mm_vision_tower", "mm_projector_type", "mm_hidden_size", "mm_vision_select_layer",
    "mm_vision_select_feature", "num_frames", "use_mm_proj",
)  # fmt: skip
TRAINING = (  # of the run that made the file
    "image_aspect_ratio", "mm_projector_lr", "tokenizer_model_max_length", "freeze_mm_mlp_adapter",
    "tokenizer_padding_side", "tune_mm_mlp_adapter", "mm_use_im_start_end",
    "mm_use_im_patch_token",
)  # fmt: skip


def spec(config: dict) -> ModelSpec:
    """Reads a config.json of model_type videollama2_mistral or videollama2_qwen2.

    Raises as `vjax.families.llava.spec`.
    """
    check_known(config, (*text.FIELDS, *READ, *TRAINING, *OURS))
    kind = config["model_type"].removeprefix(PREFIX)
    for key, wanted in (
        ("mm_vision_select_feature", ("patch",)),
        ("mm_projector_type", CONNECTORS),
    ):
        if config[key] not in wanted:
            raise ValueError(f"config.json: {key} is {config[key]!r}; read: {', '.join(wanted)}")
    vision = config.get("vision_config") or _tower(config["mm_vision_tower"])
    select = config["mm_vision_select_layer"]
    if select >= 0:
        select -= vision["num_hidden_layers"] + 1
    if config["mm_hidden_size"] != vision["hidden_size"]:
        raise ValueError(
            f"config.json: mm_hidden_size is {config['mm_hidden_size']}, the tower is "
            f"{vision['hidden_size']} wide"
        )
    decoder = {k: v for k, v in config.items() if k in text.FIELDS} | {"model_type": kind}
    token = config.get("video_token_id", TOKENS[kind][1])
    end, pad = text.end_and_pad(config)
    return ModelSpec(
        family=config["model_type"],
        vision=tower_spec(vision, select_layer=select),
        projector=ProjectorSpec(
            kind="stc",
            stride=STRIDE,
            padding=CONNECTORS[config["mm_projector_type"]],
            depth=DEPTH,
            clip=config.get("num_frames", FRAMES),
        ),
        text=text.decoder_spec(decoder),
        image_token_id=token,
        video_token_id=token,
        frame_token_id=NO_TOKEN,
        end_token_id=end,
        pad_token_id=pad,
        pictures="clips",
        plain_content=True,
    )


def _tower(name: str) -> dict:
    last = name.rstrip("/").split("/")[-1]  # of a folder, as some have it
    for known, config in TOWERS.items():
        if known.endswith(f"/{last}"):
            return config
    raise ValueError(
        f"config.json: mm_vision_tower is {name!r}; known without a vision_config: "
        f"{', '.join(TOWERS)}"
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back."""
    kind = spec.text.model_type
    class_name = f"Videollama2{kind.capitalize()}ForCausalLM"
    padding = {pad: name for name, pad in CONNECTORS.items()}
    tower = tower_config(spec.vision)
    names = [name for name, known in TOWERS.items() if known.items() <= tower.items()]
    return text.decoder_config(spec.text) | {
        "architectures": [class_name],
        "model_type": PREFIX + kind,
        "rope_theta": spec.text.rope_theta,  # where their code looks for it
        "mm_vision_tower": names[0] if names else tower["model_type"],
        "mm_projector_type": padding[spec.projector.padding],
        "mm_hidden_size": spec.vision.width,
        "mm_vision_select_layer": spec.vision.select_layer,
        "mm_vision_select_feature": "patch",
        "use_mm_proj": True,
        "num_frames": spec.projector.clip,
        "vision_config": tower,
        "video_token_id": spec.video_token_id,
        "eos_token_id": spec.end_token_id,
        "pad_token_id": spec.pad_token_id,
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """A frame, and a view of one, is a video of two equal frames; a line break is a frame's
    boundary. An image is a video of equal frames in their code too."""
    shown, _ = TOKENS[spec.text.model_type]
    token = spec.video_token_id
    return {
        "frame": Placeholder({"type": "text", "text": f"\n{shown}"}, token),
        "view": Placeholder({"type": "text", "text": shown}, token),
        **{
            kind: Placeholder({"type": "text", "text": f"{shown}\n"}, token)
            for kind in ("image", "video")
        },
    }


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    names = tower_weights(spec.vision, "model.vision_tower.vision_tower.vision_model")
    connector = "model.mm_projector"
    for stage in ("s1", "s2"):
        wide = stage == "s2" or spec.vision.width == spec.text.width
        for n in range(spec.projector.depth):
            ours, theirs = f"projector/{stage}/b{n + 1}", f"{connector}.{stage}.b{n + 1}"
            for k in (1, 2, 3):
                _conv(names, f"{ours}/conv{k}", f"{ours}/norm{k}", f"{theirs}.conv{k}")
            if n == 0 and not wide:
                _conv(names, f"{ours}/shortcut", f"{ours}/shortcut_norm", f"{theirs}.downsample")
            for name, fc in (("squeeze", "fc1"), ("excite", "fc2")):
                names[f"{ours}/{name}/kernel"] = (f"{theirs}.se.{fc}.weight", "same")
                names[f"{ours}/{name}/bias"] = (f"{theirs}.se.{fc}.bias", "same")
    names["projector/sampler/kernel"] = (f"{connector}.sampler.0.weight", "same")
    names["projector/sampler/bias"] = (f"{connector}.sampler.0.bias", "same")
    text.linear(names, "projector/fc1", f"{connector}.readout.0", bias=True)
    text.linear(names, "projector/fc2", f"{connector}.readout.2", bias=True)
    return names | text.decoder_weights(spec.text, "model")


def _conv(names: dict[str, tuple[str, str]], conv: str, norm: str, theirs: str):
    names[f"{conv}/kernel"] = (f"{theirs}.conv.weight", "same")
    names[f"{norm}/scale"] = (f"{theirs}.bn.weight", "same")
    names[f"{norm}/bias"] = (f"{theirs}.bn.bias", "same")


def module_name(name: str) -> str:
    """A tensor name as any release saved it -> the published one, whose tower has a level more than
    newer ones."""
    tower = "model.vision_tower.vision_tower."
    return re.sub(rf"^{re.escape(tower)}(?!vision_model\.)", f"{tower}vision_model.", name)


def file_name(name: str) -> str:
    """A tensor's name in a file: its module's."""
    return name


def is_unused(spec: ModelSpec, name: str) -> bool:
    """Whether a file may hold the tensor though the model does not use it.

    Features are taken before the tower's final norm and pooling head.
    """
    tower = r"model\.vision_tower\.vision_tower\.vision_model\."
    unused = rf"{tower}(post_layernorm|head|embeddings\.position_ids)\b.*"
    return bool(re.fullmatch(unused, name)) or text.decoder_unused(spec.text, name)


def unused_weights(spec: ModelSpec) -> dict[str, np.ndarray]:
    """The tower's last norm, by module name: their code has it, behind the selected layer."""
    norm = "model.vision_tower.vision_tower.vision_model.post_layernorm"
    one = np.ones(spec.vision.width, np.float32)
    return {f"{norm}.weight": one, f"{norm}.bias": 0 * one}
