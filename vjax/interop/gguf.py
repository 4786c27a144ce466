"""GGUF files (llama.cpp) -> a checkpoint folder in Hugging Face's style, numbers dequantised."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers

from vjax.console import UserError

SHARD = 2**30  # bytes of tensors in a file, about
CONTROL = 3  # a token type: special
# architecture -> whether query and key rows come in llama.cpp's own rotary order
ARCHITECTURES = {"llama": True, "qwen2": False, "qwen3": False}
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def unpack(file: str | Path, cache: Path) -> Path:
    """The folder that `file` unpacks to, made once under `cache` and found by its content.

    Raises:
      UserError: no GGUF file, or one of an architecture, tokenizer or tensor that is not read.
    """
    file = Path(file)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    folder = cache / f"{file.stem}-{digest}"
    if not folder.exists():
        unfinished = folder.with_name(folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write(file, unfinished)
        unfinished.rename(folder)
    return folder


def write(file: Path, folder: Path):
    """config.json, safetensors (float32), tokenizer.json and chat_template.jinja of a GGUF file."""
    import gguf

    try:
        reader = gguf.GGUFReader(file)
    except (ValueError, OSError, IndexError) as error:
        raise UserError(f"{file}: not a whole GGUF file ({error}); copy it again") from None
    fields = {name: field.contents() for name, field in reader.fields.items()}
    arch = fields["general.architecture"]
    if arch not in ARCHITECTURES:
        raise UserError(
            f"{file}: architecture {arch!r} is not read; what is: {', '.join(ARCHITECTURES)}"
        )
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = _config(fields, arch, tied="output.weight" not in tensors)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _tokenizer(file, fields).save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(fields.get("tokenizer.chat_template", ""))

    def values() -> Iterator[tuple[str, np.ndarray]]:
        for name, tensor in tensors.items():
            theirs = _name(file, name)
            w = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            if ARCHITECTURES[arch] and ("attn_q." in name or "attn_k." in name):
                w = _rotate_half(w, config["num_attention_heads" if "_q." in name else
                                           "num_key_value_heads"])  # fmt: skip
            yield theirs, np.ascontiguousarray(w)

    _write_shards(folder, values())


def _config(fields: dict, arch: str, *, tied: bool) -> dict:
    """What transformers calls the settings of a GGUF header."""

    def of(name: str, *default):
        return fields.get(f"{arch}.{name}", *default)

    heads, width = of("attention.head_count"), of("embedding_length")
    return {
        "architectures": [f"{arch.capitalize()}ForCausalLM"],
        "model_type": arch,
        "hidden_size": width,
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": of("attention.head_count_kv", heads),
        "head_dim": of("attention.key_length", of("rope.dimension_count", width // heads)),
        "intermediate_size": of("feed_forward_length"),
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base", 10_000.0),
        "tie_word_embeddings": tied,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
    }


def _tokenizer(file: Path, fields: dict) -> tokenizers.Tokenizer:
    """The byte-level BPE of a header; what splits text first goes by name."""
    splits = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True)],
        "qwen2": [
            pre_tokenizers.Split(tokenizers.Regex(QWEN_SPLIT), behavior="isolated"),
        ],
    }
    kind, split = (fields.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    if kind != "gpt2" or split not in splits:
        raise UserError(
            f"{file}: tokenizer {kind!r} with pre-tokenizer {split!r} is not read; what is: 'gpt2' "
            f"with {', '.join(splits)}"
        )
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    made = tokenizers.Tokenizer(models.BPE({t: n for n, t in enumerate(tokens)}, merges))
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split == "smollm")
    made.pre_tokenizer = pre_tokenizers.Sequence([*splits[split], bytes_])
    made.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    special = [token for token, of in zip(tokens, types, strict=True) if of == CONTROL]
    made.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in special])
    return made


def _name(file: Path, name: str) -> str:
    """A tensor's name in transformers."""
    if name in NAMES:
        return NAMES[name]
    block, layer, *rest = name.split(".")
    if block != "blk" or len(rest) != 2 or rest[0] not in BLOCK:
        raise UserError(f"{file}: tensor {name!r} is not read")
    return f"model.layers.{layer}.{BLOCK[rest[0]]}.{rest[1]}"


def _rotate_half(w: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head, from pairs that rotate together side by side to halves."""
    rows = w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:])
    return rows.swapaxes(1, 2).reshape(w.shape)


def _write_shards(folder: Path, tensors: Iterator[tuple[str, np.ndarray]]):
    shard: dict[str, np.ndarray] = {}
    places: dict[str, str] = {}

    def flush():
        if shard:
            file = f"model-{len(set(places.values())) + 1:05}.safetensors"
            save_file(shard, folder / file, metadata={"format": "pt"})
            places.update(dict.fromkeys(shard, file))
            shard.clear()

    for name, value in tensors:
        shard[name] = value
        if sum(w.nbytes for w in shard.values()) >= SHARD:
            flush()
    flush()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
