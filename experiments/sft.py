"""Supervised fine-tuning on conversations about videos and images (docs/data.md).

  M="('ROWS.json',)"
  ./launch/local python -m vjax.main --config=experiments/sft.py --config.data.mixture="$M"
  ./launch/local python -m vjax.main --config=experiments/sft.py:smollm2 --config.data.mixture="$M"

ROWS.json holds LLaVA's conversations, messages with `videos` and `images`, or OpenAI's content
parts, as JSON, JSONL or Parquet. Presets are those of sf2t.py: `tiny` (the default), `smollm2`, and
checkpoint folders as released.
"""

from experiments import sf2t
from vjax.config import no_preset


def get_config(arg: str = "tiny"):
    if arg not in ("tiny", "smollm2", *sf2t.RELEASES):
        raise no_preset(arg, ("tiny", "smollm2", *sf2t.RELEASES))
    config = sf2t.get_config(arg)
    config.name = "sft"
    config.train.questions = "rows"
    config.rehearsal.share = 0.0
    config.sampling.frames = 8
    config.train.steps = 500
    config.train.batch_size = 8  # rows, each full of samples
    return config
