import io
import sys

import pytest

from vjax import console

pytestmark = pytest.mark.smoke


def test_table_aligns_text_left_and_numbers_right():
    text = console.table(["task", "n", "accuracy"], [["counting", 300, 0.5], ["x", 9, None]])
    assert text.splitlines() == [
        "task        n  accuracy",
        "--------  ---  --------",
        "counting  300     0.500",
        "x           9         -",
    ]


def test_table_of_no_rows_is_its_head():
    assert console.table(["a", "bc"], []).splitlines() == ["a  bc", "-  --"]


def test_table_names_the_row_of_another_length():
    with pytest.raises(ValueError, match=r"\['x'\] has 1 cells"):
        console.table(["a", "b"], [["x"]])


def test_progress_without_terminal_writes_whole_lines(capsys):
    assert list(console.progress(range(3), desc="steps")) == [0, 1, 2]
    err = capsys.readouterr().err
    assert "\r" not in err
    assert err.startswith("steps:") and "3/3" in err.splitlines()[-1]


def test_log_gets_what_is_printed_but_no_redrawn_bar(tmp_path, capsys):
    (tmp_path / "log.txt").write_text("earlier\n")
    with console.log_to(tmp_path / "log.txt"):
        print("out")
        print("err", file=sys.stderr)
        sys.stderr.write("\r 50%|#####     |")
    print("after")
    assert (tmp_path / "log.txt").read_text() == "earlier\nout\nerr\n"
    shown = capsys.readouterr()
    assert shown.out == "out\nafter\n"
    assert shown.err == "err\n\r 50%|#####     |"


def test_log_passes_on_whether_a_terminal_is_there(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.log_to(tmp_path / "log.txt"):
        assert sys.stderr.isatty()
