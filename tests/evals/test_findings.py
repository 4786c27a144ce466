import pytest

from tests.evals.made_up import items
from vjax.evals import findings
from vjax.evals.summary import results

REAL, PROCEDURAL, SCENE = "fragments/real", "fragments/procedural", "scene/procedural"


def run(right: dict, *, before: float | None = None, n=60, suite=PROCEDURAL, clips=60, **extra):
    """Results of tasks with the given share of right answers after tuning."""
    was = [x for task in right for x in items(task, n, before, suite=suite, clips=clips)]
    now = [x for task in right
           for x in items(task, n, right[task], seed=1, suite=suite, clips=clips)]  # fmt: skip
    return results(was, now, **{"dropped": {}, "config": {}, "versions": {}, "seconds": {}} | extra)


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [(0.4, 0.6, "at"), (0.51, 0.6, "above"), (0.4, 0.49, "below"), (0.5, 0.6, "at")],
)
def test_verdict_is_where_the_interval_lies(low, high, want):
    assert findings.verdict({"low": low, "high": high, "chance": 0.5}) == want


def test_a_good_run_has_no_warnings():
    values = run({"counting": 0.99, "consistency": 0.9, "localization": 0.6})
    assert findings.warnings(values) == []
    (sentence,) = findings.sentences(values)
    assert sentence.startswith("On fragments/procedural, the model learnt counting (")
    assert ", consistency (" in sentence and " and localization (" in sentence


def test_what_was_not_learnt_is_said_and_warned_of():
    values = run({"counting": 0.99, "disorder": None, "consistency": 0.02})
    assert "; it did not learn disorder (" in findings.sentences(values)[0]
    assert "; it got worse at consistency (" in findings.sentences(values)[0]
    at, below = findings.warnings(values)
    assert at.startswith("fragments/procedural, disorder: at chance after tuning (")
    assert below.startswith("fragments/procedural, consistency: below chance after tuning (")


def test_no_clear_change_is_no_learning():
    values = run({"counting": 0.9}, before=0.9)
    (sentence,) = findings.sentences(values)
    assert "above chance but not clearly better than before at counting" in sentence
    assert "already at" in findings.warnings(values)[0]


@pytest.mark.parametrize(("before", "after", "warned"), [(0.9, 0.6, True), (0.6, 0.9, False)])
def test_scene_loss(before, after, warned):
    values = run({"action": after, "speed": after}, before=before, suite=SCENE)
    was, now, n = findings.pooled(values, SCENE)
    assert n == 120
    assert findings.sentences(values) == [
        f"On scene/procedural, right answers went from {was:.1%} to {now:.1%} "
        f"({100 * (now - was):+.1f} points on 120 questions)."
    ]
    assert any("points lost" in text for text in findings.warnings(values)) == warned


def test_few_clips():
    texts = findings.warnings(run({"counting": 0.99}, suite=REAL, clips=5))
    assert texts == ["fragments/real: only 5 source clips; intervals say little about other clips"]


def test_low_parse_rate():
    values = run({"counting": 0.99})
    values["after"][PROCEDURAL]["counting"]["parsed"] = 0.5
    assert findings.warnings(values) == [
        "fragments/procedural: few answers could be parsed after tuning: counting 50%"
    ]


def test_many_drops():
    dropped = {
        "real clips": {"n": 3, "of": 12, "reasons": {"TruncatedVideo": 3}},
        "procedural clips": {"n": 3, "of": 300, "reasons": {"frames look alike": 3}},
    }
    assert findings.warnings(run({"counting": 0.99}, dropped=dropped)) == [
        "real clips: 3 of 12 dropped (TruncatedVideo: 3)"
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cluster_low": 0.3}, "not clear of chance when whole clips are resampled"),
        ({"majority": 1.0}, "no better than always giving the commonest answer"),
    ],
)
def test_above_chance_but_not_to_be_trusted(changes, text):
    values = run({"counting": 0.95})
    values["after"][PROCEDURAL]["counting"] |= changes
    (warning,) = findings.warnings(values)
    assert text in warning


def test_a_control_warns_of_what_is_not_at_chance():
    config = {"eval": {"control": "no_order"}}
    values = run({"counting": 0.9, "disorder": 0.8, "rearrangement": None}, config=config)
    (warning,) = findings.warnings(values)
    assert warning.startswith("fragments/procedural, disorder: above chance (")
    assert "without boundary or position: items leak" in warning
    values["config"]["eval"]["control"] = "blank"
    assert len(findings.warnings(values)) == 2
