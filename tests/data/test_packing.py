"""The plan of packed batches, as properties of pure code: sizes in, sample numbers out."""

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjax.data.packing import LEFT_OUT, Bucket, Plan, choose_buckets, fill, pack

pytestmark = pytest.mark.smoke

LENGTH, PICTURES = 64, 6
TABLES = [
    (Bucket(4, 64, 6),),
    (Bucket(8, 32, 3), Bucket(4, 64, 6)),
    (Bucket(16, 16, 0), Bucket(4, 64, 6)),
]


@st.composite
def plans(draw):
    """(sizes, plan, order) of some samples, some of them left out."""
    n = draw(st.integers(1, 120))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    sizes = np.stack([rng.integers(1, LENGTH + 1, n), rng.integers(0, PICTURES + 1, n)], 1)
    sizes[1:][rng.random(n - 1) < 0.1] = LEFT_OUT
    seed = draw(st.integers(0, 3))

    def order(epoch):
        return np.random.default_rng([seed, epoch]).permutation(n)

    def make():
        return Plan(
            order,
            lambda numbers: sizes[numbers],
            draw_table,
            window=window,
            seed=seed,
        )

    draw_table = draw(st.sampled_from(TABLES))
    window = draw(st.integers(1, 150))
    return sizes, make


def epoch_of(plan, epoch):
    """Batches of an epoch with their numbers."""
    first = sum(plan.steps(e) for e in range(epoch))
    return {i: plan.batch(i) for i in range(first, first + plan.steps(epoch))}


@given(plans(), st.integers(0, 2))
def test_every_sample_exactly_once_an_epoch(made, epoch):
    sizes, make = made
    batches = epoch_of(make(), epoch).values()
    taken = Counter(n for batch in batches for row in batch.rows for n in row)
    assert taken == dict.fromkeys(np.flatnonzero(sizes[:, 0] != LEFT_OUT).tolist(), 1)
    assert {batch.epoch for batch in batches} == {epoch}


@given(plans())
def test_rows_fit_their_bucket_and_only_the_last_batches_are_short(made):
    sizes, make = made
    plan = make()
    batches = list(epoch_of(plan, 0).values())
    for batch in batches:
        bucket = plan.buckets[batch.bucket]
        assert 1 <= len(batch.rows) <= bucket.rows
        for row in batch.rows:
            assert sizes[list(row)].sum(0).tolist() <= [bucket.length, LENGTH]
            assert sizes[list(row), 1].sum() <= bucket.pictures
    short = Counter(b.bucket for b in batches if len(b.rows) < plan.buckets[b.bucket].rows)
    assert max(short.values(), default=0) <= 1


@given(plans(), st.integers(0, 60))
def test_a_batch_is_a_pure_function_of_its_number(made, i):
    _, make = made
    walked = make()
    for n in range(i):
        walked.batch(n)
    assert make().batch(i) == walked.batch(i)  # resumed there, and never stopped
    assert pickle_without_lambdas(walked).batch(i) == walked.batch(i)
    assert walked.batch(0) == make().batch(0)  # back again


def pickle_without_lambdas(plan):
    """The plan as a worker gets it; its functions are those of the other."""
    state = plan.__getstate__()
    functions = {name: state.pop(name) for name in ("order", "sizes")}
    other = Plan.__new__(Plan)
    other.__setstate__(pickle.loads(pickle.dumps(state)) | functions)
    return other


def test_samples_that_are_all_left_out_are_an_error():
    plan = Plan(
        lambda epoch: np.arange(3),
        lambda numbers: np.full((len(numbers), 2), LEFT_OUT),
        TABLES[0],
        window=2,
        seed=0,
    )
    with pytest.raises(ValueError, match="epoch 0: none of 3 samples can be used"):
        plan.batch(0)


def test_sizes_are_asked_window_by_window():
    asked = []

    def sizes(numbers):
        asked.append(len(numbers))
        return np.tile([LENGTH, 0], (len(numbers), 1))

    plan = Plan(lambda epoch: np.arange(1000), sizes, TABLES[0], window=40, seed=0)
    plan.batch(0)
    assert asked == [40]
    plan.batch(25)
    assert asked == [40] * 3


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), max_size=40),
    st.integers(50, 90),
    st.integers(5, 9),
)
def test_packing_in_two_measures(sizes, tokens, pictures):
    rows = pack(np.array(sizes).reshape(-1, 2), (tokens, pictures))
    assert sorted(n for row in rows for n in row) == list(range(len(sizes)))
    for row in rows:
        assert sum(sizes[n][0] for n in row) <= tokens
        assert sum(sizes[n][1] for n in row) <= pictures


def test_what_fits_no_row_is_named():
    with pytest.raises(
        ValueError, match="example 1: 9 tokens and 3 pictures do not fit a row of 8"
    ):
        pack([[1, 1], [9, 3]], (8, 4))


def realistic(n=4096, seed=0):
    """Tokens and pictures as in a mix of captions, long conversations and text alone."""
    rng = np.random.default_rng(seed)
    text = np.exp(rng.normal(4.5, 0.8, n)).astype(int) + 20
    frames = rng.choice([0, 1, 4, 8, 16], n, p=[0.15, 0.25, 0.2, 0.3, 0.1])
    return np.stack([np.minimum(text + 65 * frames, 2048), frames], 1)


@pytest.mark.parametrize("attention", [6 * 896, 6 * 3584])
def test_a_realistic_mix_fills_its_rows(attention):
    sizes = realistic()
    table = choose_buckets(sizes[:1024], rows=8, length=4096, most=3, attention=attention)
    for start in range(0, 4096, 1024):
        assert fill(sizes[start : start + 1024], table) >= 0.97


def test_buckets_have_the_same_tokens_and_pictures_a_batch():
    table = choose_buckets(realistic(), rows=8, length=4096, most=3, attention=200.0)
    assert len(table) == 3  # where attention is all that counts, rows are short
    assert {bucket.rows * bucket.length for bucket in table} == {8 * 4096}
    assert len({bucket.rows * bucket.pictures for bucket in table}) == 1
    assert [bucket.length for bucket in table] == [1024, 2048, 4096]


def test_text_alone_leaves_room_for_one_picture_a_row():
    """No tower takes an empty buffer, and a later window may have pictures."""
    sizes = np.stack([np.full(64, 32), np.zeros(64, int)], 1)
    (bucket,) = choose_buckets(sizes, rows=4, length=256, most=1, attention=1e9)
    assert bucket == Bucket(4, 256, 1)
    table = choose_buckets(sizes, rows=4, length=1024, most=3, attention=1.0)
    assert [bucket.pictures for bucket in table] == [1, 2, 4]


def test_no_samples_no_buckets():
    with pytest.raises(ValueError, match="no sample"):
        choose_buckets(np.zeros((0, 2), int), rows=4, length=256, most=1, attention=1e9)
