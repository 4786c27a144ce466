"""What the base model answers to ordinary questions about the training clips."""

import jax

from vjax.config import Config
from vjax.console import UserError, progress
from vjax.data.rehearsal import Rehearsal, rehearsal_items
from vjax.generate import ask
from vjax.jobs._corpus import Corpus
from vjax.jobs._model import Loaded, dtype_of, mesh_of

NEW_TOKENS = 32  # of an answer in words


def count(config: Config) -> int:
    """Rehearsed examples of a micro-batch."""
    if config.train.questions != "fragments":
        return 0
    return round(config.rehearsal.share * config.train.batch_size)


def make(config: Config, corpus: Corpus, loaded: Loaded) -> Rehearsal:
    """Asks config.rehearsal.questions, before any training.

    Raises:
      UserError: no questions, or no clips to ask them about.
    """
    options = config.rehearsal
    if not options.questions:
        raise UserError(f"rehearsal.share is {options.share:g} and rehearsal.questions is empty")
    asked = [k for of, ks in corpus.train.items() for k in ks if options.clips in ("all", of)]
    if not asked:
        raise UserError(
            f"rehearsal.clips is {options.clips!r}, and there are no such training clips; "
            f"there are: {', '.join(of for of, keys in corpus.train.items() if keys)}"
        )
    items = rehearsal_items(
        asked,
        options.questions,
        options.items,
        frames=options.frames,
        fps=loaded.video.fps,
        seed=config.seed,
    )
    prompts = [item.prompt(corpus.clip_of) for item in items]
    with (
        jax.set_mesh(mesh_of(config)),
        progress(total=len(items), desc="rehearsal", unit="question") as bar,
    ):
        answers = ask(
            prompts,
            loaded.parts,
            loaded.chat,
            image_size=loaded.video.image_size,
            pad_token_id=loaded.spec.pad_token_id,
            batch_size=config.eval.batch_size,
            max_new_tokens=NEW_TOKENS if not all(p.candidates for p in prompts) else 0,
            dtype=dtype_of(config),
            prefill_chunk=config.eval.prefill_chunk,
            on_batch=bar.update,
        )
    return Rehearsal(prompts, answers, loaded.chat)
