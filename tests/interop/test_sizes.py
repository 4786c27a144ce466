"""Released sizes, built without memory: as many parameters as transformers' class has."""

import importlib

import numpy as np
import pytest

from benchmarks.released import RELEASED
from vjax.families import family_of, spec_of, videollama2
from vjax.families.dual import DualSpec
from vjax.interop.variables import abstract, by_path

COUNTED: dict[str, int] = {}  # for tests/interop/page.py


@pytest.mark.parametrize("name", RELEASED)
def test_as_many_parameters(name):
    config = RELEASED[name]
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    spec = spec_of(config)
    ours = sum(int(np.prod(v.shape)) for v in by_path(abstract(spec)).values())

    with torch.device("meta"):
        if config["model_type"] in videollama2.TYPES:
            built = importlib.import_module("tests.interop.videollama2").VideoLlama2(config)
        else:
            settings = {name: value for name, value in config.items() if name != "model_type"}
            theirs = transformers.AutoConfig.for_model(config["model_type"], **settings)
            auto = transformers.AutoModelForCausalLM
            if isinstance(spec, DualSpec):
                auto = transformers.AutoModel
            elif spec.vision is not None:
                auto = transformers.AutoModelForImageTextToText
            built = auto.from_config(theirs)
    family = family_of(spec.family)
    unused = set(family.unused_weights(spec))
    count = {family.module_name(name): p.numel() for name, p in built.named_parameters()}
    count = {name: n for name, n in count.items() if name not in unused}
    assert ours == sum(count.values())
    COUNTED[name] = ours
