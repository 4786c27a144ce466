r"""One fragment task at a time: what each teaches, and what it teaches the others.

  T=experiments/ablations/one_task.py
  ./launch/local launch/sweep \
      --config=$T:counting,$T:consistency,$T:localization,$T:disorder,$T:rearrangement
"""

from experiments import sf2t


def get_config(arg: str = "counting"):
    config = sf2t.get_config("tiny")
    config.name = "ablation-one-task"
    config.preset = arg
    for task in config.fragments.weights:
        config.fragments.weights[task] = float(task == arg)
    return config
