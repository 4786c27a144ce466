import base64
import html.parser
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.evals.made_up import item, items
from vjax.evals import report, svg
from vjax.evals.report import Strip, make_strip, write_report
from vjax.evals.summary import results, summarise
from vjax.prompts import Prompt

VOID = {"meta", "img", "link", "br", "hr", "input"}
METRICS = [{"step": s, "loss": 3 / (1 + s / 50), "lr": 1e-3} for s in range(0, 400, 10)]


class Page(html.parser.HTMLParser):
    """The tags of a page, checked to be closed in order, its attributes and its text."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text += data


def made_up(name="sf2t"):
    tasks = ("counting", "localization", "disorder")
    before = [x for t in tasks for x in items(t, 60, None)]
    after = [x for t in tasks for x in items(t, 60, None if t == "disorder" else 0.95, seed=1)]
    config = {"name": name, "preset": "tiny", "lora": {"rank": 8}}
    drops = {"real clips": {"n": 1, "of": 20, "reasons": {"EmptyFile": 1}}}
    return results(
        before, after, dropped=drops, config=config, versions={"vjax": "0.1.0"},
        seconds={"training": 300.0, "evaluation": 60.0},
    )  # fmt: skip


def strip(side=96, n=4, **changes):
    rng = np.random.default_rng(0)
    fields = dict(
        suite="fragments/real", task="localization", queries=[n - 1],
        images=[rng.integers(256, size=(side, side, 3), dtype=np.uint8) for _ in range(n)],
        question="Where?\nA. 1\nB. 2", answer="B. 2", before="A. 1", after="B. 2", showable=True,
        source="a.mp4, CC0",
    )  # fmt: skip
    return Strip(**fields | changes)


def test_page_is_whole_and_needs_nothing_from_outside(tmp_path):
    path = tmp_path / "report.html"
    assert write_report(path, made_up(), METRICS, [strip(), strip(showable=False)]) == 2
    page = Page(path)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "style", "xlink:href"):
            assert value.startswith(("data:image/", "background:var(")), (name, value)
    assert "@import" not in page.text and "url(" not in page.text
    assert path.stat().st_size < 3_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_page_says_what_was_run_and_found(tmp_path):
    write_report(tmp_path / "r.html", made_up(), METRICS, [strip(), strip(showable=False)])
    page = Page(tmp_path / "r.html")
    text = " ".join(page.text.split())
    for want in (
        "sf2t-tiny: before and after", "390 training steps", "6.0 minutes", "vjax 0.1.0",
        "the model learnt counting", "did not learn disorder", "disorder: at chance after tuning",
        "Training loss", "A. 1 ✗", "B. 2 ✓", "a.mp4, CC0", "real clips: 1 of 20 dropped",
        '"rank": 8', "M = 4", "query-frame", "reversal", "1 2 3 query",
    ):  # fmt: skip
        assert want in text, want
    assert text.count("do not publish") == 1


def test_pictures_are_the_frames(tmp_path):
    grey = np.full((400, 200, 3), 90, np.uint8)
    write_report(tmp_path / "r.html", made_up(), METRICS, [strip(images=[grey], queries=[])])
    data = re.search(r"data:image/jpeg;base64,([^\"]+)", (tmp_path / "r.html").read_text())[1]
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (112, 224)
    assert abs(np.asarray(image).astype(int) - 90).max() <= 2


def test_what_comes_from_files_is_escaped(tmp_path):
    evil = "<script>alert('1')</script>&\"'"
    values = made_up(name=evil)
    values["dropped"] = {evil: {"n": 9, "of": 9, "reasons": {evil: 9}}}
    values["versions"] = {evil: evil}
    values["config"]["data"] = {"clips": evil}
    for side in ("before", "after", "paired"):
        values[side][evil] = values[side].pop("fragments/procedural")
        values[side][evil][evil] = values[side][evil].pop("counting")
    names = ("suite", "task", "question", "answer", "before", "after", "source")
    write_report(tmp_path / "r.html", values, METRICS, [strip(**dict.fromkeys(names, evil))])
    page = Page(tmp_path / "r.html")
    assert "script" not in page.tags
    assert "<script" not in (tmp_path / "r.html").read_text()
    assert page.text.count(evil) > 12


def test_strips_stop_before_the_page_passes_3_mb(tmp_path):
    path = tmp_path / "r.html"
    many = [strip(side=224, n=5)] * 40
    shown = write_report(path, made_up(), METRICS, many)
    assert 4 < shown < 40
    assert 2_600_000 < path.stat().st_size < 3_000_000
    assert f"{40 - shown} more not shown" in path.read_text()


def test_config_too_large_for_the_page_is_an_error(tmp_path):
    values = made_up()
    values["config"]["x"] = "x" * 3_000_000
    with pytest.raises(ValueError, match="r.html: .* bytes over 3000000"):
        write_report(tmp_path / "r.html", values, METRICS, [])


def test_without_metrics_and_strips(tmp_path):
    assert write_report(tmp_path / "r.html", made_up(), [], []) == 0
    text = Page(tmp_path / "r.html").text
    assert "Training loss" not in text and "Questions" not in text


def test_loss_that_is_not_finite_is_warned_of(tmp_path):
    rows = [*METRICS, {"step": 400, "loss": float("nan")}, {"step": 410, "loss": None}]
    write_report(tmp_path / "r.html", made_up(), [*rows, {"step": 420, "eval": 1}], [])
    assert "the loss was not finite at 2 logged steps" in Page(tmp_path / "r.html").text


def test_nothing_before_tuning_is_an_error(tmp_path):
    values = results([], items("counting", 9, 1), dropped={}, config={}, versions={}, seconds={})
    with pytest.raises(ValueError, match="r.html: nothing was scored before"):
        write_report(tmp_path / "r.html", values, [], [])


def test_strip_of_what_is_no_picture():
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], got float64 \(4, 4, 3\)"):
        report._view(strip(images=[np.zeros((4, 4, 3))]))


def test_strip_of_a_prompt():
    frames = tuple(np.full((8, 8, 3), i, np.uint8) for i in range(3))
    prompt = Prompt(
        (("frame", 0), ("frame", 1), ("text", "Where is "), ("image", 2), ("text", "?\nA. 2")),
        frames, "A", ("A", "B"),
    )  # fmt: skip
    fields = dict(form="mcq", options=["2", "1"], candidates=["A", "B"], answer="A")
    made = make_strip(
        prompt, item(**fields, scores=[-2, -1]), item(**fields, scores=[-1, -2]), showable=False
    )
    assert [image[0, 0, 0] for image in made.images] == [0, 1, 2]
    assert made.queries == [2]
    assert made.question == "Where is ?\nA. 2"
    assert (made.answer, made.before, made.after) == ("A. 2", "B. 1", "A. 2")
    assert (made.suite, made.task, made.showable) == ("fragments/procedural", "counting", False)


@pytest.mark.parametrize(
    ("steps", "loss"),
    [
        (range(5000), np.linspace(5, 0.01, 5000)),
        ([0, 10], [2.0, 1.0]),
        ([7, 8, 9], [0.0, 0.0, 0.0]),
        ([1, 2], [1e-9, 1e4]),
    ],
)
def test_loss_curve_stays_in_its_frame(steps, loss):
    root = ElementTree.fromstring(svg.loss_curve(list(steps), list(loss), width=400, height=200))
    lines = root.findall("polyline")
    assert len(lines) == 2
    points = np.array([p.split(",") for line in lines for p in line.get("points").split()], float)
    assert len(points) <= 2 * svg.POINTS
    assert (points >= 0).all() and (points <= (400, 200)).all()
    assert len(root.findall("text")) >= 4


def test_bars_are_as_long_as_accuracies():
    before, after = (
        summarise(items("counting", 100, right))["fragments/procedural"]["counting"]
        for right in (0.3, 0.9)
    )
    root = ElementTree.fromstring(svg.bars(before, after, width=102))
    assert [float(r.get("width")) for r in root.findall("rect")] == pytest.approx(
        [100 * before["accuracy"], 100 * after["accuracy"]], abs=0.06
    )
    (chance,) = (line for line in root.findall("line") if line.get("class") == "chance")
    assert float(chance.get("x1")) == pytest.approx(1 + 100 / 3, abs=0.06)
