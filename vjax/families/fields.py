"""Which fields of a config.json are read, and which may stand there unread."""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

# of every transformers config, past and present: nothing that a forward pass computes
HARMLESS = frozenset(
    """
    model_type architectures dtype torch_dtype transformers_version name_or_path tokenizer_class
    use_cache initializer_range attention_dropout hidden_dropout dropout max_position_embeddings
    bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id id2label label2id
    problem_type task_specific_params finetuning_task return_dict return_dict_in_generate
    output_attentions output_hidden_states output_scores is_encoder_decoder is_decoder
    chunk_size_feed_forward pruned_heads pretraining_tp tie_encoder_decoder torchscript use_bfloat16
    tf_legacy_loss max_length min_length do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size num_return_sequences remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens bad_words_ids
    forced_bos_token_id forced_eos_token_id is_llama_config transformers.js_config
    unsloth_fixed unsloth_version
    """.split()
)


def read_json(path: str | Path) -> dict:
    """The object in a JSON file of a checkpoint folder.

    Raises:
      ValueError: the file is cut short, no JSON, or holds something else.
    """
    try:
        value = json.loads(Path(path).read_text())
    except ValueError as error:  # of JSON, or of the text's encoding
        raise ValueError(f"{path}: no whole JSON file ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a {type(value).__name__}, not settings by name")
    return value


def check_known(config: Mapping, known: Iterable[str], where: str = ""):
    """Refuses fields that may change what is computed and that nothing here reads.

    What is null or false switches nothing on, and names that start with `_` are transformers' own.

    Args:
      where: what stands before a field's name in errors: "text_config." or "".

    Raises:
      ValueError: such a field, with its value and the nearest known name.
    """
    known = {*known}
    for name, value in config.items():
        if name in known or name in HARMLESS or name.startswith("_") or value in (None, False):
            continue
        if name == "quantization_config":
            raise ValueError(
                f"config.json: {where}{name} is there: quantised weights are not read; "
                "take the release in bfloat16"
            )
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"config.json: {where}{name}={value!r} is a field that is not known{hint}; where it "
            "changes nothing that the model computes, delete it from the file"
        )


def check_values(config: Mapping, required: Iterable[tuple[str, str, object, object]], family: str):
    """Refuses settings that change what is computed and of which one value is read.

    Args:
      required: (part or "", key, the value where the key is absent, the value that is read).

    Raises:
      ValueError: another value, with its name.
      KeyError: a part that is missing.
    """
    for part, key, absent, want in required:
        found = (config[part] if part else config).get(key, absent)
        if found != want:
            name = f"{part}.{key}" if part else key
            raise ValueError(
                f"config.json: {name} is {found!r}, the {family} family reads {want!r}"
            )
