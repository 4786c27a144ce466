"""Which frames make the training sets: motion-salient, uniform or random (SF2T, Table 6).

  S=experiments/ablations/sampling.py
  ./launch/local launch/sweep --config=$S:motion,$S:uniform,$S:random --config.seed=0,1,2

All runs are judged on the same motion-salient sets (eval.sampler).
"""

from experiments import sf2t


def get_config(arg: str = "motion"):
    config = sf2t.get_config("tiny")
    config.name = "ablation-sampling"
    config.preset = arg
    config.fragments.sampler = arg
    return config
