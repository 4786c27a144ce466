"""Processor settings beside weights that were brought to another picture size."""

import types

from benchmarks.released import RELEASED
from vjax.families import spec_of
from vjax.jobs.export import _resized
from vjax.models.resize import resized_spec


def settings(model, image_size, given):
    return _resized(given, types.SimpleNamespace(spec=resized_spec(spec_of(model), image_size)))


def test_squares_and_what_they_are_cut_from_shrink_alike():
    cut = {"max_image_size": {"longest_edge": 512}, "size": {"longest_edge": 2048}, "resample": 1}
    given = {"image_seq_len": 64, "image_processor": cut, "processor_class": "SmolVLMProcessor"}
    got = settings(RELEASED["SmolVLM2-256M"], 256, given)
    less = {"max_image_size": {"longest_edge": 256}, "size": {"longest_edge": 1024}}
    assert got == given | {"image_seq_len": 16, "image_processor": cut | less}
    assert settings(RELEASED["SmolVLM2-256M"], 512, given) == given


def test_crops_have_the_towers_size():
    size = {"height": 448, "width": 448}
    given = {"image_seq_length": 256, "video_processor": {"size": size, "max_patches": 12}}
    got = settings(RELEASED["InternVL3-1B"], 224, given)
    less = {"size": {"height": 224, "width": 224}, "max_patches": 12}
    assert got == {"image_seq_length": 64, "video_processor": less}
