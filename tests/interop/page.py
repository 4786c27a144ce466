"""docs/models.md, from what the tests of this session saw:

./launch/local pytest tests/interop tests/jobs/test_families.py --models-page=docs/models.md
"""

import importlib.metadata
from pathlib import Path

from tests.interop.test_sizes import COUNTED
from tests.interop.theirs import SEEN

CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
    "llava": "LlavaForConditionalGeneration (the layout of vjax-tiny)",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
COLUMNS = {
    "logits": "logits, largest difference",
    "gradients": "gradients, of their largest number",
    "bfloat16": "rms error in bfloat16 against the class's own",
    "adapter": "logits with a trained adapter, in PEFT",
    "merged": "logits of the merged folder",
}


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
        seen = (SEEN.get((family, what)) for what in COLUMNS)
        cells = " | ".join("-" if x is None else f"{x:.1g}" for x in seen)
        lines.append(f"| {family} | {name} | {cells} |")
    lines += [
        "",
        "Logits and gradients in float32 (the tests allow 1e-5, and 1e-4 of a gradient's largest "
        "number). Token ids, placeholder counts and M-RoPE positions equal those of the processors "
        "exactly; pixels differ by one step of 255, rarely two.",
        "",
        "Released sizes, built without memory, with as many parameters as the class has:",
        "",
        "| model | parameters |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in COUNTED.items()),
    ]
    Path(path).write_text("\n".join(lines) + "\n")
