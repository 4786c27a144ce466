"""Which tasks a model is asked."""

import dataclasses

import pytest

from tests.data import made_up
from vjax.config import defaults, freeze
from vjax.console import UserError
from vjax.families.registry import RELEASES
from vjax.fragments import TASKS
from vjax.jobs import _suites

WHY = "its videos are 8 frames, however many are shown"
FIXED = dataclasses.replace(made_up.SPEC, uncountable=WHY)


def config(counting: float):
    values = defaults()
    values.fragments.weights.counting = counting
    return freeze(values)


def test_a_model_that_cannot_count_is_not_asked_to():
    with pytest.raises(UserError, match=f"not asked to count frames: {WHY}.*counting=0"):
        _suites.tasks(config(1.0), FIXED)
    assert _suites.tasks(config(0.0), FIXED) == [task for task in TASKS if task != "counting"]
    assert _suites.tasks(config(0.0), made_up.SPEC) == list(TASKS)


@pytest.mark.parametrize("preset", RELEASES)
def test_presets_ask_what_their_models_can_answer(preset):
    from experiments import sf2t

    weight = sf2t.get_config(preset).fragments.weights.counting
    assert bool(weight) == RELEASES[preset].counting
