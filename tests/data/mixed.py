"""Files of every kind that samples show, rows about them, and their batches."""

import functools
import json

import numpy as np
from PIL import Image

from tests.data import made_up
from tests.video.conftest import write_video
from vjax.data.batches import PackedBatches
from vjax.data.examples import Examples
from vjax.data.footage import Footage
from vjax.data.mixture import Mixture, Part
from vjax.data.packing import Bucket, Plan
from vjax.data.sources import Conversations
from vjax.video import shard_writer
from vjax.video.index import build
from vjax.video.reader import Reader
from vjax.video.shards import FrameStore, Settings
from vjax.video.strategies import Sampling

VIDEOS, FRAMES = 6, 20
TABLE = (Bucket(8, 128, 10), Bucket(4, 256, 20))


def write_files(folder):
    """Videos v0.mp4 ... of as many frames at 10 a second, images i0.png and i1.jpg."""
    for n in range(VIDEOS):

        def picture(i, n=n):
            return np.full((32, 48, 3), (40 * n, 12 * i, 128), np.uint8)

        write_video(folder / f"v{n}.mp4", n=FRAMES, fps=10, picture=picture)
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(folder / "i0.png")
    Image.fromarray(np.full((40, 24, 3), 90, np.uint8)).save(folder / "i1.jpg")


def rows(count=24):
    """Video, two videos, image, a cut, video and image, several turns, text alone, in turn."""
    made = []
    for n in range(count):
        v, w = f"v{n % VIDEOS}.mp4", f"v{(n + 1) % VIDEOS}.mp4"
        kind = n % 7
        said = {
            0: ("<video>\nTell me what happens.", {"videos": [v]}),
            1: ("<video><video>Tell me.", {"videos": [v, w]}),
            2: ("<image>\nTell me what you see.", {"images": ["i0.png"]}),
            3: ("<video>Tell me.", {"videos": [{"path": v, "start": 0.5, "end": 1.2}]}),
            4: ("<video>and<image>", {"videos": [v], "images": ["i1.jpg"]}),
            5: ("<video>Tell me.", {"videos": [v]}),
            6: ("Tell me what you see. " * (1 + n % 4), {}),
        }[kind]
        messages = [{"role": "user", "content": said[0]}]
        messages.append({"role": "assistant", "content": f"It is a red box {n}."})
        if kind == 5:
            messages += [
                {"role": "user", "content": "And then?"},
                {"role": "assistant", "content": "The box drops down."},
            ]
        made.append({"id": f"r{n}", "messages": messages} | said[1])
    return made


def write_rows(folder, some=None, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in (some or rows())))
    return path


def footage(folder, *, workers=0, on_bad="error"):
    """Of all files in the folder."""
    paths = [p for p in sorted(folder.iterdir()) if p.suffix in (".mp4", ".png", ".jpg")]
    index = build(paths, folder / "index" / "all.parquet", folder, workers=0)
    reader = functools.partial(
        Reader, len(paths), workers=workers, on_bad=on_bad, max_bad_share=1.0
    )
    return Footage(index, reader, size=made_up.VIDEO.image_size, resize="swscale")


def examples(folder, some=None, *, rule=None, workers=0, on_bad="error", **options):
    """Examples of rows in a file of their own."""
    options = dict(length=256, pictures=20) | options
    path = write_rows(folder, some)
    source = Conversations(path, folder / "cache", prompt=options.pop("prompt", ""))
    return Examples(
        Mixture([Part(len(source))], seed=0),
        [source],
        footage(folder, workers=workers, on_bad=on_bad),
        made_up.chat(),
        rule or Sampling(frames=4),
        on_bad=on_bad,
        **options,
    )


def batches(made: Examples, *, table=TABLE, window=16, **options) -> PackedBatches:
    plan = Plan(made.mixture.epoch, made.sizes, table, window=window, seed=0)
    side, patches = made_up.VIDEO.image_size, made.chat.patches
    return PackedBatches(plan, made, made_up.PAD, side, patches, **options)


def store_of(folder, *, side=32, motion=False) -> FrameStore:
    """A frame store of the videos in the folder, every frame of them."""
    videos = [p for p in sorted(folder.iterdir()) if p.suffix == ".mp4"]
    index = build(videos, folder / "index" / "videos.parquet", folder, workers=0, motion=motion)
    rule = Sampling("uniform", frames=FRAMES)
    settings = Settings(rule, side=side, square=True, resize="swscale", quality=95, motion=motion)
    directory = folder / "store"
    shards = shard_writer.plan(index, directory, settings, 4)
    with Reader(len(index), workers=0) as reader:
        for shard in shards:
            shard_writer.write_shard(directory, folder, shard.number, reader, 1)
    shard_writer.finish(directory, shard_writer.joined(directory, len(shards)), len(shards))
    return FrameStore(directory)
