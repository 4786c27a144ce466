"""Something-Something V2 as a TensorFlow Dataset, `something_something_v2`."""

import tensorflow_datasets as tfds

from vjax.data import something
from vjax.data.tfds_builders.labelled import Labelled


class SomethingSomethingV2(Labelled, tfds.core.GeneratorBasedBuilder):
    """Built from the user's copy: see MANUAL_DOWNLOAD_INSTRUCTIONS."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = something.LAYOUT
    source = something
    homepage = "https://www.qualcomm.com/developer/software/something-something-v-2-dataset"
    citation = """\
@inproceedings{goyal2017something,
  title={The "something something" video database for learning and evaluating visual common sense},
  author={Goyal, Raghav and Ebrahimi Kahou, Samira and Michalski, Vincent and others},
  booktitle={ICCV},
  year={2017}
}"""
