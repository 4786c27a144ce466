import pytest

from tests.fragments.clips import CFG, clip_of, moving_squares, named
from vjax.fragments import make_records


@pytest.fixture(scope="session")
def clip():
    return clip_of(moving_squares())


@pytest.fixture(scope="session")
def records(clip):
    """Items of 400 clips that differ in name only."""
    made = []
    for n in range(400):
        new, drop = make_records(named(clip, f"v{n}.mp4"), CFG)
        assert drop is None, drop
        made += new
    return made


@pytest.fixture(scope="session")
def of_task(records):
    """of_task(task, **fields): the records with these values."""

    def select(task, **fields):
        chosen = [r for r in records if r.task == task]
        for name, value in fields.items():
            chosen = [r for r in chosen if getattr(r, name) == value]
        assert chosen, (task, fields)
        return chosen

    return select
