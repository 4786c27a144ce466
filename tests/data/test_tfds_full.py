"""The test case that TensorFlow Datasets has for builders; it needs TensorFlow, no lock has it.

python3.11 -m venv /tmp/with-tensorflow
/tmp/with-tensorflow/bin/pip install '.[prep]' tensorflow-cpu dill pytest hypothesis beartype
/tmp/with-tensorflow/bin/python -m pytest -m slow tests/data/test_tfds_full.py
"""

import pytest

from tests.data.conftest import make_moments, make_something

pytestmark = pytest.mark.slow
for name in ("apache_beam", "tensorflow_datasets", "tensorflow"):
    pytest.importorskip(name, reason=f"{name} is not installed; how, says this file's docstring")

import tensorflow_datasets as tfds  # noqa: E402

from vjax.data.tfds_builders.moments import MomentsInTime  # noqa: E402
from vjax.data.tfds_builders.something import SomethingSomethingV2  # noqa: E402


class TestSomething(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = SomethingSomethingV2
    SPLITS = {"train": 3, "validation": 1, "test": 2}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def copy(cls, tmp_path_factory):
        cls.EXAMPLE_DIR = make_something(tmp_path_factory.mktemp("copy") / "ssv2")


class TestMoments(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = MomentsInTime
    SPLITS = {"train": 3, "validation": 1}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def copy(cls, tmp_path_factory):
        cls.EXAMPLE_DIR = make_moments(tmp_path_factory.mktemp("copy") / "mit")
