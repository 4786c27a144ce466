"""Needle in a haystack: a picture hidden among frames, by length and depth (docs/needle.md).

  ./launch/local python -m vjax.main --config=experiments/needle.py:qwen2_vl_2b --job=needle \
      --config.data.clips=DIR

asks a checkpoint folder as released (presets of sf2t.py). The miniature teaches vjax-tiny the task
on rows of up to 16 frames, and asks it at up to 128, in three minutes on two CPU cores:

  ./launch/local python -m vjax.main --config=experiments/needle.py --job=needle_rows \
      --workdir=runs/needle-rows
  ./launch/local python -m vjax.main --config=experiments/needle.py
  ./launch/local python -m vjax.main --job=needle --workdir=runs/needle-tiny
"""

from experiments import sf2t
from vjax.config import defaults, no_preset


def get_config(arg: str = "tiny"):
    if arg in sf2t.RELEASES:
        config = sf2t.released(defaults(), sf2t.RELEASES[arg])
        config.name, config.preset = "needle", arg
        config.needle.lengths = (16, 32, 64, 128, 256)
        config.needle.batch_size = 1
        return config
    if arg != "tiny":
        raise no_preset(arg, ("tiny", *sf2t.RELEASES))
    config = defaults()
    config.name, config.preset = "needle", arg
    config.data.source = "procedural"
    config.data.procedural_clips = 200
    config.data.procedural_eval_clips = 60
    config.data.store_size = 48
    config.needle.fps = 3.0
    config.needle.lengths = (4, 8, 16, 32, 64, 128)
    config.needle.haystacks = 2
    config.needle.trained = 16

    config.train.questions = "rows"
    config.data.mixture = ("runs/needle-rows/rows.jsonl",)
    config.sampling.kind = "stride"  # every frame of a row's video
    config.data.row_tokens = 512
    config.data.buckets = 1
    config.lora.rank = 32
    config.lora.targets = "(tower|projector|decoder)/.*"
    config.optim.lr = 2e-3
    config.optim.b2 = 0.98
    config.train.steps = 80
    config.train.batch_size = 4
    config.eval.items_rows = 40
    return config
