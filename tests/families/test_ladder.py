"""The length ladder, and the two ways in which its rungs slow rotary positions."""

import dataclasses

import numpy as np
import pytest

from vjax.families.ladder import length_ladder, slowed
from vjax.families.spec import DecoderSpec, RopeScaling
from vjax.families.text import decoder_config, decoder_spec
from vjax.models.layers import rope_frequencies

pytestmark = pytest.mark.smoke

LLAMA = DecoderSpec(
    width=64, layers=1, heads=1, kv_heads=1, head_dim=128, ffn=8, vocab=8, model_type="llama",
    qkv_bias=False,
)  # fmt: skip


def scaled(*args, **more):
    return dataclasses.replace(LLAMA, rope_scaling=RopeScaling(*args, **more))


def slowdown(spec):
    """Of channel pairs 0, 32 and 63 of 64."""
    return (rope_frequencies(LLAMA) / rope_frequencies(spec))[[0, 32, 63]]


def test_a_larger_base_slows_channels_unevenly_and_interpolation_all_alike():
    np.testing.assert_allclose(slowdown(scaled("theta_scale", 32)), [1.0, 5.657, 30.313], rtol=1e-4)
    np.testing.assert_allclose(slowdown(scaled("position_interpolation", 32)), 32, rtol=1e-6)
    half = slowdown(scaled("theta_scale", 32, alpha=0.5))
    np.testing.assert_allclose(half, np.sqrt([1.0, 5.657, 30.313]), rtol=1e-4)


@pytest.mark.parametrize(
    "spec", [scaled("theta_scale", 8, alpha=1.5), scaled("position_interpolation", 8)]
)
def test_files_hold_what_transformers_knows(spec):
    config = decoder_config(spec)
    assert config["rope_parameters"]["rope_type"] in ("default", "linear")
    np.testing.assert_allclose(
        rope_frequencies(decoder_spec(config)), rope_frequencies(spec), rtol=1e-6
    )


def test_files_may_name_them():
    config = decoder_config(LLAMA)
    for named, spec in (
        ({"rope_type": "theta_scale", "factor": 4.0}, scaled("theta_scale", 4.0)),
        ({"rope_type": "theta_scale", "factor": 4.0, "alpha": 2.0},
         scaled("theta_scale", 4.0, alpha=2.0)),
        ({"rope_type": "position_interpolation", "factor": 4.0},
         scaled("position_interpolation", 4.0)),
    ):  # fmt: skip
        assert decoder_spec(config | {"rope_parameters": {"rope_theta": 1e4} | named}) == spec


def test_llama_2_climbs_from_4k_to_1m():
    rungs = length_ladder(4096)
    assert [rung.length // 1024 for rung in rungs] == [32, 64, 128, 256, 512, 1024]
    assert [rung.start // 1024 for rung in rungs] == [4, 32, 64, 128, 256, 512]
    assert [rung.scaling.factor for rung in rungs] == [8, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["theta_scale", "position_interpolation"])
def test_rungs_add_up(kind):
    spec = LLAMA
    for rung in length_ladder(4096, kind=kind):
        spec = slowed(decoder_spec(decoder_config(spec)), rung.scaling)  # as its checkpoint is read
    np.testing.assert_allclose(
        rope_frequencies(spec), rope_frequencies(scaled(kind, 256)), rtol=1e-5
    )


def test_what_makes_no_ladder():
    with pytest.raises(ValueError, match="'yarn' is neither"):
        length_ladder(4096, kind="yarn")
    with pytest.raises(ValueError, match="the lengths of a ladder rise; these are 8192, 4096"):
        length_ladder(1024, (8192, 4096))
    (rung,) = length_ladder(8192, (16384,))
    with pytest.raises(ValueError, match="theta_scale does not go on top of llama3 positions"):
        slowed(scaled("llama3", 8.0), rung.scaling)
