import dataclasses
import json
import math

import pytest

from tests.evals.made_up import OPTIONS, item, items
from vjax.evals.statistics import mcnemar, wilson
from vjax.evals.summary import (
    compare,
    read_results,
    results,
    summarise,
    table,
    write_results,
)

FRAGMENTS = ("counting", "consistency", "localization", "disorder", "rearrangement")
ROW = {
    "accuracy", "accuracy_parsed", "parsed", "low", "high", "cluster_low", "cluster_high", "chance",
    "n", "clips", "majority", "by_M", "by_form",
}  # fmt: skip
RUN = {"dropped": {}, "config": {}, "versions": {}, "seconds": {}}


def test_row_of_four_items():
    some = [
        item(id="1", group="a"),
        item(id="2", group="a", M=4, answer="4", generated="a ball"),
        item(id="3", group="b", form="mcq", options=["4", "3", "5"], candidates=["A", "B", "C"],
             answer="B", scores=[-1, 0, -1], generated="The answer is A"),
        item(id="4", group="c", M=5, candidates=["3", "5"], answer="5", scores=[-1, 0],
             generated="5"),
    ]  # fmt: skip
    row = summarise(some)["fragments/procedural"]["counting"]
    assert row.keys() == ROW
    assert row["accuracy"] == 3 / 4
    assert (row["low"], row["high"]) == wilson(3, 4)
    assert row["accuracy_parsed"] == 2 / 4
    assert row["parsed"] == 3 / 4
    assert row["chance"] == pytest.approx((3 / 3 + 1 / 2) / 4)
    assert (row["n"], row["clips"]) == (4, 3)
    assert row["majority"] == 2 / 4  # "3", once as a letter
    assert {M: part["n"] for M, part in row["by_M"].items()} == {"3": 2, "4": 1, "5": 1}
    assert row["by_M"]["4"].keys() == {"accuracy", "low", "high", "chance", "n"}
    assert row["by_M"]["4"]["accuracy"] == 0
    assert row["by_form"]["mcq"]["accuracy"] == 1


def test_variants_and_reversals_are_reported_apart():
    localization = summarise(items("localization", 40, 0.5))["fragments/procedural"]["localization"]
    assert set(localization["by_variant"]) == {"query-frame", "patch-first"}
    disorder = summarise(items("disorder", 60, 0.5))["fragments/procedural"]["disorder"]
    assert {name: part["n"] for name, part in disorder["by_reversal"].items()} == {
        "other": 50,
        "reversal": 10,
    }


@pytest.mark.parametrize("task", OPTIONS)
def test_random_answers_sit_at_chance(task):
    row = summarise(items(task, 150, None))["fragments/procedural"][task]
    assert row["low"] < row["chance"] < row["high"]
    assert row["cluster_low"] < row["chance"] < row["cluster_high"]


def test_chance_is_the_mean_over_items():
    some = items("localization", 300, None)
    row = summarise(some)["fragments/procedural"]["localization"]
    assert row["chance"] == pytest.approx(sum(1 / s.M for s in some) / 300)
    assert row["by_M"]["5"]["chance"] == pytest.approx(1 / 5)


def test_suites_and_tasks_are_kept_apart():
    some = items("action", 10, 1, suite="scene/procedural") + items("counting", 10, 0)
    found = summarise(some)
    assert {suite: list(tasks) for suite, tasks in found.items()} == {
        "scene/procedural": ["action"],
        "fragments/procedural": ["counting"],
    }
    assert found["scene/procedural"]["action"]["accuracy"] == 1


def test_compare_pairs_by_id():
    before, after = items("counting", 90, 0.4), items("counting", 90, 0.8, seed=1)
    change = compare(before, after[::-1])["fragments/procedural"]["counting"]
    pairs = [(b.correct, a.correct) for b, a in zip(before, after, strict=True)]
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    assert change.keys() == {"delta", "p", "low", "high"}
    assert change["delta"] == pytest.approx((gained - lost) / 90)
    assert change["p"] == mcnemar(gained, lost)
    assert 0 < change["low"] < change["delta"] < change["high"]


def test_compare_names_the_item_that_one_side_lacks():
    some = items("counting", 5, 1)
    with pytest.raises(ValueError, match="counting/3: not scored after"):
        compare(some, some[:3] + some[4:])
    with pytest.raises(ValueError, match="counting/0: not scored before"):
        compare(some[1:], some)
    with pytest.raises(ValueError, match="counting/2: scored twice after"):
        compare(some, [*some, some[2]])


def test_compare_names_the_item_with_another_answer():
    other = dataclasses.replace(item(), answer="4")
    with pytest.raises(ValueError, match="counting/0: counting with answer '3' before.* '4' after"):
        compare([item()], [other])


@pytest.fixture(scope="module")
def made_up():
    before = [x for t in FRAGMENTS for x in items(t, 80, None)]
    after = [
        x for t in FRAGMENTS for x in items(t, 80, None if t == "rearrangement" else 0.95, seed=1)
    ]
    return results(before, after, **RUN)


def test_results_go_through_a_file(tmp_path, made_up):
    assert made_up.keys() == {
        "schema_version", "before", "after", "paired", "dropped", "config", "versions", "seconds"
    }  # fmt: skip
    write_results(tmp_path / "results.json", made_up)
    assert read_results(tmp_path / "results.json") == made_up
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_results_are_the_same_every_time(made_up):
    before = [x for t in FRAGMENTS for x in items(t, 80, None)]
    assert summarise(before) == made_up["before"]


def test_results_without_before():
    found = results([], items("counting", 9, 1), **RUN)
    assert (found["before"], found["paired"]) == ({}, {})
    assert "counting" in table(found)


def test_a_number_that_json_lacks_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="results.json: .*NaN or infinite"):
        write_results(path, {"seconds": math.nan})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 2}'])
def test_what_is_no_results_file_is_named(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="results.json: .*run --job=eval again"):
        read_results(tmp_path / "results.json")


def test_table_says_what_is_at_chance(made_up):
    lines = {line.split()[1]: line for line in table(made_up).splitlines() if "fragments/" in line}
    assert list(lines) == [*FRAGMENTS, "of"]  # rearrangement of M = 3
    for task in FRAGMENTS[:4]:
        assert f"{made_up['after']['fragments/procedural'][task]['accuracy']:.3f}*" in lines[task]
        assert "<0.001" in lines[task] and "chance" not in lines[task]
    still = made_up["after"]["fragments/procedural"]["rearrangement"]["accuracy"]
    assert f"  {still:.3f}  " in lines["rearrangement"]
    assert lines["rearrangement"].endswith("at chance")


def test_table_says_what_is_below_chance():
    before, after = items("disorder", 100, 0.5), items("disorder", 100, 0.1, seed=1)
    row = next(s for s in table(results(before, after, **RUN)).splitlines() if "disorder" in s)
    assert row.endswith("below chance")


def test_results_hold_plain_json_types(made_up):
    assert json.loads(json.dumps(made_up)) == made_up
