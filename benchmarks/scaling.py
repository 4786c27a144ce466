"""How step, memory, input and storage grow with frames, chips and clips: docs/scaling.md.

    ./launch/local python benchmarks/scaling.py [--only=PATTERN] [--out=docs/scaling.md]

Steps are compiled for TPUs that are not here, as by benchmarks/plan.py and into the same record, so
that they are made once; decoding rates are read out of the pages under docs/results; what an index,
an epoch's order and SF2T's plan take is measured now, at sizes that fit here.
"""

import datetime
import re
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from benchmarks import plan
from vjax.data.items import FragmentItem
from vjax.data.mixture import Mixture, Part
from vjax.fragments import FragmentConfig, make_records
from vjax.plan.machines import Machine
from vjax.plan.step import duration
from vjax.video import index
from vjax.video.frames import Clip, FrameTable

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
MODEL, SIDE = "Qwen2-VL-2B", 224
FRAMES, TOKENS, WIDTH = 64, 64, 1536  # of a clip; of a frame in the decoder, and their width
PATCHES, TOWER = 256, 1280  # of a frame in the tower
HOST = 4  # chips of a host
CORPUS = 10_000_000
# frames of a row, machine, ways over which parameters are split
POINTS = (
    (16, "v5e:4x4", 16),
    (64, "v5e:4x4", 16),
    (256, "v5e:4x4", 16),
    (64, "v5e:16x16", 256),
    (64, "v5p:8x8x16", 128),
    (256, "v5p:8x8x16", 128),
)


def recipes():
    for frames, pod, fsdp in POINTS:
        chips = Machine.named(pod).count
        more = {"mesh.fsdp": fsdp, "train.batch_size": chips, "plan.frames": frames,
                "model.image_size": SIDE}  # fmt: skip
        if fsdp < chips:
            more = {"mesh.data": chips // fsdp, **more}
        yield f"SF2T, {frames} frames, a row a chip", MODEL, pod, more


# ---- measured here -------------------------------------------------------------------------------


def index_row(n: int = 5000) -> tuple[float, float]:
    """Bytes of an index row on disk, and of its facts in memory: clips of 10 s at 30 a second."""
    rng = np.random.default_rng(0)
    base = dict(error=None, reason=None, container="mov,mp4,m4a,3gp,3g2,mj2", codec="h264",
                width=640, height=360, rotation=0, frames=300, duration=10.0, fps=30.0,
                time_base_num=1, time_base_den=15360, counted=False, images=None, motion=None,
                pts=list(range(0, 300 * 512, 512)), keys=[0, 250 * 512])  # fmt: skip
    rows = [
        base | {
            "path": f"part-{k // 1000:05}/{rng.bytes(8).hex()}.mp4",
            "bytes": int(rng.integers(9e5)),
            "mtime_ns": int(rng.integers(2**60)), "content_hash": rng.bytes(16).hex(),
            "packet_bytes": rng.gamma(2.0, 1500.0, 300).astype(int).tolist(),
        }
        for k in range(n)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index.parquet"
        index._write(file, index._table(rows))
        return file.stat().st_size / n, index.Index(file, folder).facts.nbytes / n


def order(n: int) -> tuple[float, float]:
    """Seconds that the order of an epoch of n conversations takes, and bytes at the peak."""
    tracemalloc.start()
    began = time.perf_counter()
    Mixture([Part(n)], seed=0).epoch(0)
    seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak


def planned_clip(n: int = 20) -> float:
    """Bytes of the SF2T items that a clip gives, as an epoch's plan holds them."""
    rng = np.random.default_rng(0)
    clips = []
    for k in range(n):
        at = np.arange(64, dtype=np.int32)
        table = FrameTable(f"{k}.mp4", f"{k}.mp4", f"{k:032x}", at, at / 4, 640, 360, 0)
        frames = rng.integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
        clips.append(Clip(table, frames, rng.integers(1, 9**5, 63), f"{k}.mp4"))
    tracemalloc.start()
    kept = [
        FragmentItem(record, f"key-{k}")
        for k, clip in enumerate(clips)
        for record in make_records(clip, FragmentConfig(), 0)[0]
    ]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept, "no items of random frames"
    return size / n


def cell(page: str, row: str, column: int) -> float:
    """A number of a table under docs/results."""
    for line in (RESULTS / page).read_text().splitlines():
        if line.startswith(f"| {row} |"):
            return float(line.split("|")[column + 1])
    raise SystemExit(f"docs/results/{page} has no row {row!r}: its command makes it")


def rates() -> dict[str, tuple[float, str]]:
    """Frames a second and core by what is read, and where that was measured: 16 frames a clip."""
    both = 16 / 2  # frames of a clip, cores
    return {
        "shards": (
            both * cell("store.md", "640x360, key frame every 250 | 224x224", 2),
            "store.md",
        ),
        "360p files": (both * cell("video.md", "640x360, key frame every 250", 1), "video.md"),
        "720p files": (both * cell("video.md", "1280x720, key frame every 250", 1), "video.md"),
    }


# ---- the page ------------------------------------------------------------------------------------

HEAD = """# How it grows

Made by `./launch/local python benchmarks/scaling.py --out=docs/scaling.md` on {date}. SF2T by LoRA
(rank 32) on Qwen2-VL-2B in bfloat16, layers rematerialised, a row a chip, of 64 frames of 224
pixels and 128 tokens of text where nothing else is said.

- *compiled*: by libtpu for machines that are not here ([plan.md](plan.md)); nothing ran on them.
- *estimated*: the longest of products, memory and links at the data sheets' rates, a best case: at
  40 % of the peak instead, steps take longer and the input needs less, both by MFU / 40 %.
- *measured*: by this command or by that of the page named, on 2 cores.
- *extrapolated*: a measured number times the clips.
"""


def size(n: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:,.3g} {unit}" if n < 1000 else f"{n:,.0f} {unit}"
        n /= 1000


def lines(headers, rows) -> str:
    out = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in out)


def steps(rows) -> str:
    """Step time and memory by frames and chips."""
    table, left = [], []
    for row in rows:
        name, _, pod, more = row["recipe"]
        if "error" in row:
            left.append(f"{name}, {pod}: not made: {row['error']}")
            continue
        memory, chips = row["memory"], Machine.named(pod).count
        verdict = "" if row["fits"] else f": **does not fit**, {row['change']}"
        table.append([
            pod, chips, more["plan.frames"], f"{row['tokens']:,}", plan.gib(memory["arguments"]),
            plan.gib(memory["temporaries"]),
            plan.gib(memory["limit"]) + verdict,
            *((f"{row['seconds'][row['bound']]:.3f} s", row["bound"], f"{row['mfu']:.0%}")
              if row["fits"] else ("", "", "")),
        ])  # fmt: skip
    heads = (
        "machine", "chips", "frames", "tokens a step", "arguments, compiled",
        "temporaries, compiled", "of a chip", "step, estimated", "bound by", "MFU at most",
    )  # fmt: skip
    text = "\n## Frames and chips\n\n" + lines(heads, table)
    text += "".join(f"\n{one}\n" for one in left)
    one = [r for r in rows if r["recipe"][2] == "v5e:4x4" and "error" not in r]
    if len(one) > 2:
        frames = np.log([r["recipe"][3]["plan.frames"] for r in one])
        power = lambda values: np.polyfit(frames, np.log(values), 1)[0]  # noqa: E731
        work = power([sum(r["flops"].values()) for r in one])
        held = power([r["memory"]["temporaries"] for r in one])
        text += (
            f"\nOn v5e:4x4 FLOPs grow as frames to the power {work:.2f} and temporaries to the "
            f"power {held:.2f} (fitted over {len(one)} points).\n"
        )
    return text


def demand(rows) -> str:
    """What a host's part of the input is."""
    speed = rates()
    bytes_a_frame = cell("store.md", "640x360, key frame every 250 | 224x224", 7)
    table = []
    for row in rows:
        if "error" in row or not row["fits"]:
            continue
        _, _, pod, more = row["recipe"]
        hosts = Machine.named(pod).count // HOST
        clips = more["train.batch_size"] / row["seconds"][row["bound"]]
        frames = clips * more["plan.frames"] / hosts
        table.append([
            pod, more["plan.frames"], hosts,
            f"{clips:,.0f}", f"{clips / hosts:.1f}", f"{frames:,.0f}",
            size(frames * SIDE * SIDE * 3), size(frames * bytes_a_frame),
            *(f"{frames / rate:,.1f}" for rate, _ in speed.values()),
        ])  # fmt: skip
    heads = ("machine", "frames", f"hosts of {HOST} chips", "clips/s", "clips/s a host",
             "frames/s a host", "RGB to chips a host", "JPEG read a host",
             *(f"cores a host, {name}" for name in speed))  # fmt: skip
    said = ", ".join(
        f"{rate:,.0f} {name} ([{page}](results/{page}))" for name, (rate, page) in speed.items()
    )
    return (
        "\n## What decoding must deliver\n\nAt the estimated step, so at most. Frames a second and "
        f"core, measured: {said}; of 10 s clips, 16 frames each. Fewer frames of longer clips cost "
        f"more each. A stored frame has {bytes_a_frame / 1000:.1f} kB there, of blocks of random "
        "colour; footage has a fraction of that.\n\n" + lines(heads, table)
    )


def corpus(rows) -> str:
    """What so many clips take."""
    on_disk, in_memory = index_row()
    bytes_a_frame = cell("store.md", "640x360, key frame every 250 | 224x224", 7)
    sorts, peak = order(CORPUS)
    items = planned_clip()
    reading = 16 / rates()["360p files"][0]
    counts = (10_000, 1_000_000, CORPUS)
    table = []
    for row in rows:
        _, _, pod, more = row["recipe"]
        if "error" in row or not row["fits"] or more["plan.frames"] != FRAMES:
            continue
        per = row["seconds"][row["bound"]] / more["train.batch_size"]
        times = (duration(n * per) for n in counts)
        table.append([f"an epoch on {pod}, estimated, at best", *times])

    def grows(what, each):
        table.append([what, *(size(n * each) for n in counts)])

    grows("index on disk (rows of 300 frames), extrapolated", on_disk)
    grows("its facts in memory of each process that opens it, extrapolated", in_memory)
    grows(f"{FRAMES} stored frames a clip, extrapolated", FRAMES * bytes_a_frame)
    grows(f"features of {FRAMES} frames after the projector, counted", FRAMES * TOKENS * WIDTH * 2)
    grows(f"features of {FRAMES} frames of the tower, counted", FRAMES * PATCHES * TOWER * 2)
    grows(
        "an epoch's order of conversations, memory at its peak, measured (last column)",
        peak / CORPUS,
    )
    grows("SF2T's plan of an epoch in memory of each process, extrapolated", items)
    hours = (f"{n * reading / 3600:,.1f} core-hours" for n in counts)
    table.append(["reading 16 frames of every 360p file once, extrapolated", *hours])
    saved = next((r["variables"] for r in rows if "error" not in r), None)
    if saved:
        total = saved["trainable"]["bytes"] + saved["optimizer"]["bytes"]
        table.append(
            ["a checkpoint (adapters and optimiser), counted", *[size(total)] * len(counts)]
        )
    return (
        "\n## Up to ten million clips\n\n"
        + lines(("", *(f"{n:,} clips" for n in counts)), table)
        + f"\nThe order of {CORPUS:,} conversations took {sorts:.1f} s and {size(peak)}; "
        "plans of conversations are made in windows, so no more of them is in memory "
        "([results/rows.md](results/rows.md)).\n" + LIMITS.format(around=around(rows))
    )


LIMITS = """
## What does not grow that far

- **SF2T's plan** looks at every clip before the first step, since pixels decide what is decidable,
  and each process holds the items of a whole epoch (the table's row). It is made for corpora of
  some 100,000 clips. Of ten million, take another part in each run, or make conversations of them
  (`train.questions=rows`), which are planned in windows.
- **The index** is opened whole, but for its lists, by every process that reads videos.
- **A mesh of 1,024 chips** cannot split widths of 1,536 and 1,280 over all of them: 128 chips
  share the parameters (`mesh.fsdp`), and eight such groups hold the same (`mesh.data`).
- **Vision tokens travel.** The tower's output for all pictures of a batch lies in parts on the
  devices. Where rows do not lie beside their pictures, as fragments of one process or of a host
  with several chips do not, these parts go round all devices that split rows: {around} (compiled).
  No chip holds more than two parts, and a part does not grow with chips. Rows of conversations lie
  beside theirs, and send nothing.
- **A shared folder** has to serve all hosts; nothing here measures one.
"""


def around(rows) -> str:
    """What vision tokens add to what a chip of the largest machine sends."""
    said = []
    for row in rows:
        _, _, pod, more = row["recipe"]
        hops = [
            one["bytes"]
            for one in row.get("traffic", ())
            if (one["kind"], one["axes"]) == ("collective-permute", "data+fsdp")
        ]
        if pod == "v5p:8x8x16" and hops:
            count, frames = more["train.batch_size"], more["plan.frames"]
            size = f"{plan.gib(sum(hops))} a chip and step"
            said.append(f"{size} for {count:,} rows of {frames} frames")
    return ", ".join(said) or "not compiled"


def main():
    args = plan.arguments(__doc__).parse_args()
    rows = plan.rows(recipes(), args.record, args.only, made=args.made)
    today = datetime.datetime.now(datetime.UTC).date()
    text = HEAD.format(date=today) + steps(rows) + demand(rows) + corpus(rows)
    print(text)
    if args.out and not re.search("[^ ]", args.only):
        args.out.write_text(text)


if __name__ == "__main__":
    main()
