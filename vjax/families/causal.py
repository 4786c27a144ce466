"""Language models without eyes: transformers' LlamaForCausalLM and its kin, whole checkpoints."""

from vjax.families.spec import NO_TOKEN, ModelSpec, Placeholder
from vjax.families.text import (
    decoder_config,
    decoder_spec,
    decoder_weights,
    end_and_pad,
    no_weights,
    same_name,
    unused_by_decoder,
)

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def spec(config: dict) -> ModelSpec:
    """Reads the config.json of a decoder; raises as `vjax.families.llava.spec`."""
    decoder = decoder_spec(config)
    end, pad = end_and_pad(config)
    return ModelSpec(
        family=decoder.model_type,
        vision=None,
        projector=None,
        text=decoder,
        image_token_id=NO_TOKEN,
        frame_token_id=NO_TOKEN,
        end_token_id=end,
        pad_token_id=pad,
    )


def config_json(spec: ModelSpec) -> dict:
    """The config.json that `spec` reads back and transformers opens."""
    end = None if spec.end_token_id == NO_TOKEN else spec.end_token_id
    return decoder_config(spec.text) | {
        "architectures": [ARCHITECTURES[spec.text.model_type]],
        "eos_token_id": end,
        "pad_token_id": spec.pad_token_id,
    }


def placeholders(spec: ModelSpec) -> dict[str, Placeholder]:
    """None: it sees nothing."""
    return {}


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """Our variable path -> (name, layout); see `vjax.families.llava.weight_map`."""
    return decoder_weights(spec.text, "model")


module_name = file_name = same_name
is_unused = unused_by_decoder
unused_weights = no_weights
