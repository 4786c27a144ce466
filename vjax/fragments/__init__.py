"""SF2T: questions about a video's own frames, whose answers need no labels (arXiv 2504.07745).

The paper names the five tasks; wording, options, thresholds and chances are our choice.
"""

from vjax.fragments.config import FragmentConfig
from vjax.fragments.record import Record, label_histogram, read_records, write_records
from vjax.fragments.sets import Drop, FragmentSet, draw_sets
from vjax.fragments.tasks import TASKS, make_records, render

__all__ = [
    "TASKS",
    "Drop",
    "FragmentConfig",
    "FragmentSet",
    "Record",
    "draw_sets",
    "label_histogram",
    "make_records",
    "read_records",
    "render",
    "write_records",
]
