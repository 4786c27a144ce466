"""Tiny copies of public data sets, in the layouts that their releases have."""

import json

import pytest

from tests.data import mixed
from tests.video.conftest import write_video

CLASSES = {"Closing something": "0", "Something falling like a rock": "1"}
LABELLED = {
    "train": [
        ("11", "closing a door", "Closing [something]", ["a door"]),
        ("12", "a pen falling like a rock", "[Something] falling like a rock", ["a pen"]),
        ("13", "closing «der Kühlschrank»", "Closing [something]", ["«der Kühlschrank»"]),
    ],
    "validation": [("21", "closing a box", "Closing [something]", ["a box"])],
}
TEST = [("31", "Closing something"), ("32", "Something falling like a rock")]
MOMENTS = {
    "training": [
        "running/yt-a_1.mp4",
        "adult+female+singing/flickr-b.c_2.mp4",
        "running/vine-d.mp4",
    ],
    "validation": ["running/yt-e_5.mp4"],
}


def make_something(root, older=False):
    """Something-Something V2 in the layout of either release."""
    before = "something-something-v2-" if older else "labels/"
    folder = root / "20bn-something-something-v2"
    folder.mkdir(parents=True)
    (root / "labels").mkdir()
    written = {"labels": CLASSES, "test": [{"id": name} for name, _ in TEST]}
    keys = ("id", "label", "template", "placeholders")
    for split, rows in LABELLED.items():
        written[split] = [dict(zip(keys, row, strict=True)) for row in rows]
    for split, what in written.items():
        (root / f"{before}{split}.json").write_text(json.dumps(what, indent=1))
    if not older:
        answers = "".join(f"{name};{category}\n" for name, category in TEST)
        (root / "labels/test-answers.csv").write_text(answers)
    ids = [row[0] for rows in (*LABELLED.values(), TEST) for row in rows]
    write_video(folder / f"{ids[0]}.webm", n=3, fps=12, codec="libvpx-vp9")
    for name in ids[1:]:
        (folder / f"{name}.webm").write_bytes(other_bytes(name))
    return root


def make_moments(root, videos=""):
    """Moments in Time; `videos` is MMAction2's folder around those of the splits."""
    for split, files in MOMENTS.items():
        for file in files:
            path = root / videos / split / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(other_bytes(path.stem))
        rows = [f"{file},{file.split('/')[0]},3,1\n" for file in files]
        (root / f"{split}Set.csv").write_text("".join(rows))
    write_video(root / videos / "training" / MOMENTS["training"][0], n=3)
    (root / "moments_categories.txt").write_text("adult+female+singing,1\nrunning,12\n")
    return root


def other_bytes(name):
    """Bytes in the place of a video, which end as many containers do."""
    return b"\0\xff video " + name.encode() + b"\0\0"


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The folder of `mixed.write_files`; only to be read."""
    folder = tmp_path_factory.mktemp("mixed")
    mixed.write_files(folder)
    return folder


@pytest.fixture
def something_root(tmp_path):
    return lambda older=False: make_something(tmp_path / f"ssv2-{older}", older)


@pytest.fixture
def moments_root(tmp_path):
    return lambda videos="": make_moments(tmp_path / f"mit-{videos}", videos)


@pytest.fixture
def mvbench_root(tmp_path):
    """MVBench's json folder: two tasks' files with three questions about two clips of ours."""
    folder = tmp_path / "MVBench" / "json"
    folder.mkdir(parents=True)
    rest = {"question": "What?", "candidates": ["a", "b"], "answer": "a"}
    videos = {
        "action_antonym": ["12.webm", "999.webm", "12.webm"],
        "fine_grained_action": ["flickr-b.c_2.mp4", "none_3.mp4", "11.mp4"],
        "moving_count": ["13.webm", "yt-a_1.mp4"],
    }
    for task, names in videos.items():
        (folder / f"{task}.json").write_text(json.dumps([{"video": n} | rest for n in names]))
    return folder.parent
