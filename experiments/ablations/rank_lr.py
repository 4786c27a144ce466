r"""Adapter rank and learning rate.

  ./launch/local launch/sweep --config=experiments/ablations/rank_lr.py \
      --config.lora.rank=4,16,64 --config.optim.lr=5e-4,2e-3

alpha is 32 throughout, so that the adapter's scale is 32 / rank.
"""

from experiments import sf2t


def get_config(arg: str = ""):
    config = sf2t.get_config("tiny")
    config.name = "ablation-rank-lr"
    config.preset = "tiny"
    return config
