"""vjax-tiny, the small base model that vjax ships: made from nothing on the procedural world.

  ./launch/local python -m vjax.main --config=experiments/tiny_base.py --job=pretrain

Under two hours on two CPU cores; the same command again goes on after a stop. The folder
runs/tiny_base-default/model takes the place of vjax/presets/vjax-tiny. One more stage on a model:

  ... --config.model.path=FOLDER --config.pretrain.stages="('watch',)"
"""

from vjax.config import defaults


def get_config(arg: str = ""):
    config = defaults()
    config.name = "tiny_base"
    config.preset = arg or "default"
    config.optim.lr = 1e-3
    config.optim.b2 = 0.98
    config.optim.weight_decay = 0.02
    config.optim.warmup = 0.03
    config.train.steps = 6000
    config.train.batch_size = 24
    config.train.log_every = 50
    return config
