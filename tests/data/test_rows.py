"""Files of rows: the same by any format, by number, from any process, and in bounded memory."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vjax.data import rows as rows_module
from vjax.data.rows import BadFile, open_rows

ROWS = [{"id": f"r{n}", "messages": [{"role": "user", "content": "é" * n}]} for n in range(50)]


@pytest.fixture
def write(tmp_path):
    """write(name): ROWS in a file of that name."""

    def call(name):
        path = tmp_path / name
        if name.endswith(".jsonl"):
            lines = [json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(ROWS)]
            path.write_text("\n".join(lines[:20]) + "\n\n" + "\n".join(lines[20:]))
        elif name.endswith(".json"):
            path.write_text(json.dumps(ROWS, ensure_ascii=False, indent=2))
        else:
            pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)
        return path

    return call


@pytest.fixture
def opened(write, tmp_path):
    return lambda name: open_rows(write(name), tmp_path / "cache")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_rows_by_number(opened, name):
    rows = opened(name)
    assert len(rows) == 50
    for n in (49, 0, 7, 6, 21):
        assert rows[n] == ROWS[n]
    with pytest.raises(IndexError, match="row 50 of 50"):
        rows[50]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_rows_go_to_another_process(opened, name):
    rows = pickle.loads(pickle.dumps(opened(name)))
    assert rows[33] == ROWS[33]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_an_array_is_read_piece_by_piece(opened, monkeypatch, chunk):
    monkeypatch.setattr(rows_module, "_CHUNK", chunk)
    assert list(opened("a.json")) == ROWS


@pytest.mark.parametrize("text", ["[]", " [ ] ", '[{"a": [1, 4.5e3]},\n{}]'])
@pytest.mark.parametrize("chunk", [1, 3])
def test_any_array(tmp_path, monkeypatch, text, chunk):
    monkeypatch.setattr(rows_module, "_CHUNK", chunk)
    (tmp_path / "a.json").write_text(text)
    rows = open_rows(tmp_path / "a.json", tmp_path / "cache")
    assert [rows[n] for n in range(len(rows))] == json.loads(text)


def test_an_array_is_written_out_once_and_again_when_it_changes(write, tmp_path, monkeypatch):
    path = write("a.json")
    open_rows(path, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "json_array", lambda path: pytest.fail("read again"))
        open_rows(path, tmp_path / "cache")
    path.write_text(json.dumps(ROWS[:3]))
    assert len(open_rows(path, tmp_path / "cache")) == 3


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.json", '{"id": 1}', "no array of rows"),
        ("a.json", '[{"id": 1}, {"id": ]', "row 1: not JSON"),
        ("a.json", '[{"id": 1} {"id": 2}]', "after 1 rows: neither another"),
        ("a.json", '[{"id": 1}', "after 1 rows"),
        ("a.json", '[{"id": 1},', "after 1 rows"),
        ("a.json", '[{"id": 1}, 2]', "row 1: begins with '2', no object"),
        ("a.parquet", "xxxx" * 9, "no Parquet"),
        ("a.csv", "a,b", r"this is '\.csv'"),
    ],
)
def test_files_that_are_wrong(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadFile, match=match) as caught:
        open_rows(tmp_path / name, tmp_path / "cache")
    assert name in str(caught.value)
    assert not list(tmp_path.glob("cache/*"))


def test_a_line_that_is_wrong_is_named_when_it_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": \n')
    rows = open_rows(tmp_path / "a.jsonl", tmp_path / "cache")
    assert rows[0] == {"id": 1}
    with pytest.raises(BadFile, match=r"a\.jsonl:2: not JSON \(Expecting value, column 1\)"):
        rows[1]


def test_messages_name_the_line_that_an_editor_shows(tmp_path):
    (tmp_path / "a.jsonl").write_text('\n{"id": 0}\n{"id": 1}\n\n \n{"id": 2}\n\n')
    rows = open_rows(tmp_path / "a.jsonl", tmp_path / "cache")
    names = [f"{tmp_path / 'a.jsonl'}:{line}" for line in (2, 3, 6)]
    assert [rows.where(n) for n in range(3)] == names
    assert [pickle.loads(pickle.dumps(rows)).where(n) for n in range(3)] == names


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_files_without_lines_have_their_rows_counted_from_0(opened, name):
    assert opened(name).where(1).endswith(f"{name}, row 1")


def test_no_file(tmp_path):
    with pytest.raises(BadFile, match="no such file"):
        open_rows(tmp_path / "none.jsonl", tmp_path)
