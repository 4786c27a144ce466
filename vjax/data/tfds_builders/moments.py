"""Moments in Time as a TensorFlow Dataset, `moments_in_time`."""

import tensorflow_datasets as tfds

from vjax.data import moments
from vjax.data.tfds_builders.labelled import Labelled


class MomentsInTime(Labelled, tfds.core.GeneratorBasedBuilder):
    """Built from the user's copy: see MANUAL_DOWNLOAD_INSTRUCTIONS."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = moments.LAYOUT
    source = moments
    homepage = "http://moments.csail.mit.edu"
    citation = """\
@article{monfort2019moments,
  title={Moments in Time dataset: one million videos for event understanding},
  author={Monfort, Mathew and Andonian, Alex and Zhou, Bolei and others},
  journal={IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year={2019}
}"""
