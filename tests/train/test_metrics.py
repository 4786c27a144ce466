"""metrics.jsonl: every step once, exact numbers, and cut back where a run goes on."""

import json

import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter  # noqa: F401  the package writes these files

from vjax.train.metrics import Metrics, read_metrics

pytestmark = pytest.mark.smoke


def write(workdir, steps, start=0):
    metrics = Metrics(workdir, start)
    for step in steps:
        metrics.write(step, {"loss": 1 / step})
    metrics.close()


def test_a_run_that_goes_on_cuts_what_came_after_its_checkpoint(tmp_path):
    write(tmp_path, range(1, 8))
    write(tmp_path, range(6, 10), start=5)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 10))


def test_float32_comes_back_to_the_bit(tmp_path):
    values = np.random.default_rng(0).standard_normal(200).astype(np.float32) ** 9
    metrics = Metrics(tmp_path)
    for n, value in enumerate(values, 1):
        metrics.write(n, {"loss": float(value)})
    metrics.close()
    again = [np.float32(row["loss"]) for row in read_metrics(metrics.path)]
    np.testing.assert_array_equal(again, values)


def test_a_last_line_cut_short_by_a_kill_is_left_out(tmp_path):
    write(tmp_path, range(1, 4))
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 4, "lo')
    assert [row["step"] for row in read_metrics(file)] == [1, 2, 3]
    write(tmp_path, [3], start=2)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_a_broken_line_in_the_middle_names_file_and_line(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(ValueError, match="metrics.jsonl:2: not JSON"):
        read_metrics(file)


def test_no_file_is_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def events(folder):
    """What TensorBoard reads: records of length, checksum, Event, checksum."""
    for file in sorted(folder.iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            yield event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
            at += 12 + size + 4


def test_tensorboard_has_the_numbers_and_hides_the_steps_taken_again(tmp_path):
    write(tmp_path, [1, 2, 3])
    write(tmp_path, [3, 4], start=2)
    found = list(events(tmp_path / "tensorboard"))
    scalars = [(e.step, v.simple_value) for e in found for v in e.summary.value if v.tag == "loss"]
    want = {step: pytest.approx(1 / step) for step in (1, 2, 3, 4)}
    assert {step: value for step, value in scalars} == want
    starts = [e.step for e in found if e.session_log.status == event_pb2.SessionLog.START]
    assert starts == [3]  # drops what it holds from this step on
