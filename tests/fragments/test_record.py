"""Records as JSON lines."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjax.fragments import Record, label_histogram, read_records, write_records

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
VALUES = {
    "int": st.integers(0, 2**63),
    "str": TEXT,
    "float": FLOAT,
    "list[str]": st.lists(TEXT, max_size=3),
    "list[int]": st.lists(st.integers(), max_size=3),
    "list[float]": st.lists(FLOAT, max_size=3),
    "list[int] | None": st.none() | st.lists(st.integers(), max_size=3),
    "list[float] | None": st.none() | st.lists(FLOAT, max_size=3),
    "dict": st.dictionaries(TEXT, st.lists(FLOAT, max_size=2), max_size=2),
}
RECORDS = st.builds(
    Record, **{f.name: VALUES[f.type] for f in dataclasses.fields(Record)} | {"schema": st.just(1)}
)


@given(RECORDS)
def test_json_is_one_line_and_exact(record):
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record


def test_file_round_trip(tmp_path, records):
    path = tmp_path / "items.jsonl"
    write_records(path, records[:50])
    assert read_records(path) == records[:50]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("{", "not a fragment record"),
        ("[1]", "expected a JSON object, got list"),
        ('{"schema": 2}', "schema is 2, this version reads 1"),
        ('{"schema": 1, "task": "counting", "colour": 1}', "unknown fields \\['colour'\\]"),
        ("\udcff", "not a fragment record"),
    ],
)
def test_a_bad_line_is_named(tmp_path, records, line, reason):
    path = tmp_path / "items.jsonl"
    good = records[0].to_json().encode()
    path.write_bytes(good + b"\n" + line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(ValueError, match=reason) as error:
        read_records(path)
    assert f"{path}, line 2" in str(error.value)


def test_histogram_counts_texts_and_letters(of_task):
    items = of_task("counting")
    counts = label_histogram(items)["counting"]
    assert counts["label"] == {"3": 400, "4": 400, "5": 400}
    assert sum(counts["letter"].values()) == sum(r.form == "mcq" for r in items)
    assert set(counts["letter"]) == {"A", "B", "C"}
