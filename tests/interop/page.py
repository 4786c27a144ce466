"""docs/models.md, from what the tests of this session saw:

./launch/local pytest tests/interop tests/prompts tests/jobs/test_families.py --models-page=docs/models.md
"""  # noqa: E501

import importlib.metadata
from pathlib import Path

from tests.interop.test_sizes import COUNTED
from tests.interop.theirs import SEEN
from vjax.families.registry import RELEASES

CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "video_llama_3": "VideoLlama3ForConditionalGeneration",
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
    "internvl": "InternVLForConditionalGeneration",
    "llava_next_video": "LlavaNextVideoForConditionalGeneration",
    "video_llava": "VideoLlavaForConditionalGeneration",
    "videollama2_mistral": "CLIPVisionModel, MistralForCausalLM, the connector in torch",
    "videollama2_qwen2": "SiglipVisionModel, Qwen2ForCausalLM, the connector in torch",
    "llava": "LlavaForConditionalGeneration (the layout of vjax-tiny)",
    "clip": "CLIPModel",
    "siglip": "SiglipModel (SigLIP 2 of a fixed size too)",
    "siglip2": "Siglip2Model (NaFlex)",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
COLUMNS = {
    "logits": "logits, largest difference",
    "gradients": "gradients, of their largest number",
    "bfloat16": "rms error in bfloat16, of the class's own",
    "ids": "token ids and grids of the processor",
    "pixels": "its pixels, steps of 255",
    "adapter": "logits with a trained adapter, in PEFT",
    "merged": "logits of the merged folder",
}


def cell(what: str, off: float | None) -> str:
    """A number as the table shows it."""
    if off is None:
        return "-"
    return "equal" if what == "ids" and off == 0 else f"{off:.1g}"


def write(path: str):
    """Raises ValueError where a family was not compared: run the command of the page whole."""
    missing = [family for family in CLASSES if (family, "logits") not in SEEN]
    if missing:
        raise ValueError(f"{path}: nothing was compared of {', '.join(missing)}")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "peft")]
    lines = [
        "# Models",
        "",
        f"Made from what the tests saw, on tiny random checkpoints that {versions[0]} wrote "
        f"(PEFT: {versions[1]}), by",
        "",
        f"    {__doc__.splitlines()[-1].strip()}",
        "",
        "| family | reference class | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for family, name in CLASSES.items():
        cells = " | ".join(cell(what, SEEN.get((family, what))) for what in COLUMNS)
        lines.append(f"| {family} | {name} | {cells} |")
    lines += [
        "",
        "`-`: not compared. Logits and gradients in float32 (the tests allow 1e-5, and 1e-4 of a "
        "gradient's largest number). In bfloat16 1 means as near to float32 as the class itself "
        "comes. Pixels differ where torchvision's batched resize rounds otherwise than Pillow's.",
        "",
        "Released sizes, built without memory (no weights, no forward pass), with as many "
        "parameters as the class has:",
        "",
        "| model | parameters |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in COUNTED.items()),
        "",
        "Positions after a video that lasts longer than it is wide are not those of Qwen's own "
        "code (rule `qwen`: jobs) in transformers since 5.3 (`hf5`: `vjax.load`), for Qwen2-VL "
        "and Qwen2.5-VL; and around the blocks of a video of Qwen3-VL transformers 5 keeps the "
        "marks of its template. Folders that jobs export name the rule in video_spec.json.",
        "",
        "Presets of `experiments/sf2t.py` and `experiments/sft.py`:",
        "",
        "| preset | checkpoint | side of frames in pixels | counts frames |",
        "|---|---|---|---|",
        *(
            f"| {name} | {r.hub} | {r.image_size} | {'yes' if r.counting else 'no'} |"
            for name, r in RELEASES.items()
        ),
    ]
    Path(path).write_text("\n".join(lines) + "\n")
