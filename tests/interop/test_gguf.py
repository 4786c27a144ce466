"""GGUF files against what transformers reads from the same ones."""

import json

import gguf
import numpy as np
import pytest
import tokenizers

from vjax.console import UserError
from vjax.interop import load_model, reference_logits
from vjax.interop.gguf import unpack

WIDTH, HEADS, KV, HEAD, FFN, LAYERS = 64, 4, 2, 16, 96, 2
TOKENS = [*"<>", *map(chr, range(97, 123)), *map(str, range(10)), "Ġ", "ab", "Ġa"]


def write(file, arch="llama", pre="smollm", extra=()):
    """A tiny quantised language model, every number random."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(file, arch)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages }}")
    kv = KV * HEAD
    shapes = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    for n in range(LAYERS):
        block = {
            "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH),
            "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH), "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (FFN, WIDTH), "ffn_up": (FFN, WIDTH), "ffn_down": (WIDTH, FFN),
        }  # fmt: skip
        shapes |= {f"blk.{n}.{name}.weight": shape for name, shape in block.items()}
    for name, shape in [*shapes.items(), *extra]:
        value = (len(shape) == 1) + 0.2 * rng.standard_normal(shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, value.astype(np.float32))
            continue
        kind = gguf.GGMLQuantizationType.Q4_1 if "ffn" in name else gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_logits_are_those_transformers_reads(file, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    ours = load_model(unpack(file, tmp_path))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    ids = np.random.default_rng(1).integers(0, len(TOKENS), (2, 11))
    with torch.no_grad():
        want = theirs(torch.from_numpy(ids)).logits.numpy()
    assert np.abs(want).max() > 0.3
    np.testing.assert_allclose(reference_logits(ours, input_ids=ids), want, atol=1e-5)


def test_a_file_is_unpacked_once(file, tmp_path):
    folder = unpack(file, tmp_path)
    (folder / "config.json").touch()
    when = (folder / "config.json").stat().st_mtime_ns
    assert unpack(file, tmp_path) == folder
    assert (folder / "config.json").stat().st_mtime_ns == when
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 1


def test_the_tokenizer_comes_along(file, tmp_path):
    folder = unpack(file, tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("<ab ab12>").tokens == ["<", "ab", "Ġ", "ab", "1", "2", ">"]
    assert tokenizer.decode(tokenizer.encode("<ab ab12>").ids) == "ab ab12"
    assert (folder / "chat_template.jinja").read_text() == "{{ messages }}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "mamba"}, "architecture 'mamba' is not read"),
        ({"pre": "llama-bpe"}, "pre-tokenizer 'llama-bpe' is not read"),
        ({"extra": [("blk.0.ssm_a.weight", (32, 32))]}, "'blk.0.ssm_a.weight' is not read"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        unpack(write(tmp_path / "odd.gguf", **change), tmp_path / "cache")


def test_no_gguf_file(tmp_path):
    (tmp_path / "some.gguf").write_bytes(b"no such thing")
    with pytest.raises(UserError, match="some.gguf: not a whole GGUF file"):
        unpack(tmp_path / "some.gguf", tmp_path)
