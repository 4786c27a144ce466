"""A language model put behind a tower: on a tiny one, and (slow) on the real SmolLM2."""

import numpy as np
import pytest
import scipy.special
import tokenizers

from tests.data import made_up
from vjax import main
from vjax.evals.summary import read_results
from vjax.families import read_spec
from vjax.interop import load_model
from vjax.jobs import _smollm2
from vjax.jobs._model import TINY
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat
from vjax.train.metrics import read_metrics


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(a language model's folder, the same behind the tower of vjax-tiny)."""
    transformers = pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("language")
    tokenizer = tokenizers.Tokenizer.from_str(made_up.small_tokenizer().to_str())  # a copy
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    config = transformers.AutoConfig.for_model(
        "llama", hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=48, vocab_size=tokenizer.get_vocab_size(),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"), pad_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(root / "language")
    tokenizer.save(str(root / "language" / "tokenizer.json"))
    _smollm2.put_behind(TINY, root / "language", root / "model")
    return root / "language", root / "model"


def test_the_language_model_and_the_tower_are_what_they_were(folders):
    language, eyes, made = load_model(folders[0]), load_model(TINY), load_model(folders[1])
    V = len(language.decoder.embed[...])
    np.testing.assert_array_equal(made.decoder.embed[...][:V], language.decoder.embed[...])
    for name in ("q", "o"):
        a, b = (getattr(m.decoder.layers.attn, name).kernel[...] for m in (made, language))
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        made.tower.layers.mlp.fc1.kernel[...], eyes.tower.layers.mlp.fc1.kernel[...]
    )


def test_transformers_opens_it(folders):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(folders[1])
    assert theirs.config.text_config.model_type == "llama"


def test_frames_have_their_boundary(folders):
    spec = read_spec(folders[1])
    chat = Chat.from_folder(folders[1], spec)
    frame = np.zeros((48, 48, 3), np.uint8)
    got = chat.encode(Prompt((("frame", 0), ("frame", 0), ("text", "Yes")), (frame,), "No"))
    assert (got.tokens == spec.frame_token_id).sum() == 2
    assert (got.vision >= 0).sum() == 2 * chat.patches
    assert got.tokens[-1] == spec.end_token_id


@pytest.mark.slow
def test_the_real_one_runs_the_job(tmp_path):
    """Fetches 93 MB once; a few minutes."""
    flags = (
        "--config=experiments/sf2t.py:smollm2", f"--workdir={tmp_path / 'run'}",
        "--config.data.source=procedural", "--config.data.procedural_clips=24",
        "--config.data.procedural_eval_clips=12", "--config.train.steps=4",
        "--config.train.batch_size=2", "--config.eval.items_procedural=4",
        "--config.eval.items_scene=4", "--config.eval.bootstrap=20",
    )  # fmt: skip
    main._plainly(main.main)(main.parse(["vjax", *flags]))
    losses = [row["loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert len(losses) == 4 and np.isfinite(losses).all()
    assert "fragments/procedural" in read_results(tmp_path / "run" / "results.json")["after"]


@pytest.mark.slow
def test_the_real_one_reads_english():
    """Perplexity and greedy text of the same weights in transformers."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from vjax.config import cache_root
    from vjax.interop import gguf, reference_logits

    folder = gguf.unpack(_smollm2.weights(cache_root()), cache_root() / "models")
    ours = load_model(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = _smollm2.tokenizer_lib.load(folder)
    text = (
        "The river rose in the night, and by morning the bridge was gone. People stood on both "
        "banks and called to each other across the brown water until someone brought a boat."
    )
    ids = np.array([tokenizer.encode(text).ids])
    with torch.no_grad():
        want = theirs(torch.from_numpy(ids)).logits.numpy()
    got = np.asarray(reference_logits(ours, input_ids=ids))
    assert abs(perplexity(got, ids) - perplexity(want, ids)) < 1e-3
    asked = np.array([tokenizer.encode("The capital of France is").ids])
    best = int(np.asarray(reference_logits(ours, input_ids=asked))[0, -1].argmax())
    assert tokenizer.decode([best]) == " Paris"


def perplexity(logits, ids):
    logp = scipy.special.log_softmax(logits[0, :-1].astype(np.float64), axis=-1)
    return float(np.exp(-np.mean(logp[np.arange(len(logp)), ids[0, 1:]])))
