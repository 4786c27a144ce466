"""SF2T after ordinary supervised tuning, as the paper has it: labels first, then fragments.

A=experiments/ablations/after_sft.py
./launch/local python -m vjax.main --config=$A:sft                  # captions and scene questions
./launch/local python -m vjax.main --config=$A:sft --job=export
./launch/local python -m vjax.main --config=$A:sf2t                 # goes on from that model
"""

from experiments import sf2t


def get_config(arg: str = "sft"):
    config = sf2t.get_config("tiny")
    config.name = "ablation-after-sft"
    config.preset = arg
    if arg == "sft":
        config.train.questions = "scenes"
    else:
        config.model.path = "runs/ablation-after-sft-sft/model"
    return config
