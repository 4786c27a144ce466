"""What a config holds: a dataclass a group, a line a field. `vjax.config` checks by it.

Tuples are lists on the command line:
`--config.optim.groups="('tower/.*=0.1','projector/.*=0')"`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both included; above=True leaves `low` itself out."""

    low: float
    high: float = float("inf")
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        low = f"{'more than' if self.above else 'at least'} {self.low:g}"
        return low if self.high == float("inf") else f"{low} and at most {self.high:g}"


class Regex:
    """Marks a str that must compile as a regular expression."""


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0)]
AboveZero = Annotated[float, Range(0, above=True)]
Pattern = Annotated[str, Regex]


@dataclass(frozen=True)
class Model:
    # a folder; "" = the shipped vjax-tiny, "random" = its spec with random weights, "smollm2" = the
    # language model of that name behind the tower of vjax-tiny
    path: str = ""
    hub: str = ""  # its name on a model hub, for the error where the folder is not there
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation, and of frozen weights
    image_size: Count = 0  # side in pixels of the frames it is shown, 0 = as the checkpoint says
    # docs/attention.md
    attention: Literal["auto", "xla", "chunked", "cudnn", "splash", "tokamax"] = "auto"
    # how the decoder attends where mesh.context splits a row
    context_parallel: Literal["ring", "all_gather", "ulysses"] = "ring"
    # pictures that a device passes through the vision tower at a time, 0 = all: fewer need less
    # memory, and give each picture the same features to the bit in whatever batch (docs/vision.md)
    tower_batch: Count = 0
    vision_cache: str = ""  # a folder where features of a frozen tower are kept, by their pixels
    vision_cache_gb: AboveZero = 100.0  # beyond which no more are kept
    # slower rotary positions for rows `rope_factor` times as long as the checkpoint's
    rope: Literal["as it is", "theta_scale", "position_interpolation"] = "as it is"
    rope_factor: AboveZero = 1.0
    rope_alpha: AboveZero = 1.0  # of theta_scale: the base grows by factor ** alpha


@dataclass(frozen=True)
class Rows:
    """A source of conversations about videos and images, and how it is mixed with others."""

    # .json, .jsonl or .parquet; something:FOLDER/SPLIT, moments:FOLDER/SPLIT; tfds:NAME/SPLIT
    path: str
    folder: str = ""  # that paths in a file are relative to (its own where empty); tfds: data_dir
    weight: AboveZero = 1.0  # how often an epoch takes each row
    cap: Count = 0  # most rows of an epoch, 0 = no limit
    fraction: Share = 1.0  # of the rows, the same whatever the seed; 0.1 is inside 0.2
    frames: Count = 0  # most of a video, 0 = as sampling says
    # of a file, a line put after each question ("Answer in one word."); of labelled clips, the
    # question
    prompt: str = ""


@dataclass(frozen=True)
class Data:
    source: Literal["sample", "procedural", "folder"] = "sample"
    # a folder of videos; as a flag it makes the source `folder`. Or something:FOLDER/SPLIT,
    # moments:FOLDER/SPLIT
    clips: str = ""
    mvbench: str = ""  # its folder: videos that it asks about are left out of these two
    stored: bool = False  # rows: frames of videos below `clips` come from what --job=store wrote
    on_bad_clip: Literal["error", "skip", "blank"] = "error"
    max_bad_share: Share = 0.1  # skipped files beyond this share of all stop the run
    procedural_clips: Count = 300  # for training
    procedural_share: Share = 0.5  # of training items
    procedural_eval_clips: Count = 160
    window_min_s: AboveZero = 2.0
    window_max_s: AboveZero = 4.0
    store_size: Annotated[int, Range(16)] = 96  # side in pixels of stored frames
    # auto: as the checkpoint's video_spec.json says; without one, as Hugging Face processors do
    resize: Literal["auto", "reference", "swscale"] = "auto"
    workers: Count = 2  # decode processes, 0 = in this one
    deadline_s: AboveZero = 10.0  # without a frame, after which a file is bad
    read_threads: Positive = 4
    # what --config.train.questions=rows trains on: "FILE", or a dict of the fields of Rows
    mixture: tuple[Rows, ...] = ()
    row_tokens: Count = 0  # of a row that samples are packed into, 0 = as the first window needs
    window: Positive = 1024  # samples that are packed together
    buckets: Annotated[int, Range(1, 4)] = 3  # most batch shapes
    on_long: Literal["error", "skip"] = "error"  # a sample that no row holds
    processes: Count = 0  # that make batches (Grain workers), 0 = threads of this one
    show_batch: Count = 0  # number of the batch that --job=data shows


@dataclass(frozen=True)
class Index:
    """Only `--job=index` and `--job=check` read these."""

    file: str = ""  # Parquet; below the cache when empty
    motion: bool = False  # decode every file once, for its motion curve
    frames: Positive = 16  # of each clip, of which the cost of an epoch is told
    # that one accelerator takes: a 7B model, 64 frames at 336 pixels, LoRA, an H200 at 40 % of peak
    clips_per_s: AboveZero = 2.4
    decode: bool = True  # check decodes every frame; False: the packets and the first picture


@dataclass(frozen=True)
class Sampling:
    """Which frames of a whole clip are shown; `vjax.video.strategies.Sampling` says what counts."""

    kind: Literal["uniform", "fps", "stride", "segments", "window", "views", "motion"] = "uniform"
    frames: Positive = 8
    fps: AboveZero = 2.0
    min_frames: Positive = 4
    max_frames: Positive = 768
    multiple: Positive = 1
    stride: Positive = 1
    views: Positive = 1
    power: AboveZero = 0.5


@dataclass(frozen=True)
class Store:
    """Frames kept as JPEG in shards, which `--job=store` writes: docs/store.md."""

    directory: str = ""  # below the cache when empty, named by the folder and what is kept of it
    kind: Literal["fps", "uniform", "motion"] = "fps"  # which frames: vjax.video.strategies
    fps: AboveZero = 2.0
    max_frames: Positive = 64  # of `fps`, a clip
    frames: Positive = 16  # of `uniform` and `motion`, a clip
    side: Annotated[int, Range(16)] = 224  # pixels
    # short_side: of that many pixels, aspect kept, nothing enlarged; square: for towers that take
    # squares alone, aspect not kept
    shape: Literal["short_side", "square"] = "short_side"
    quality: Annotated[int, Range(1, 95)] = 90  # of JPEG, as Pillow counts it
    shard_clips: Positive = 128
    runner: str = "DirectRunner"  # of Beam, by its name there
    beam: tuple[str, ...] = ()  # flags for Beam and its runner, as they are: "('--region=R',)"


@dataclass(frozen=True)
class Weights:
    """Shares of the five tasks, relative to each other."""

    counting: NotNegative = 1.0
    consistency: NotNegative = 1.0
    localization: NotNegative = 1.0
    disorder: NotNegative = 1.0
    rearrangement: NotNegative = 1.0


@dataclass(frozen=True)
class Fragments:
    sampler: Literal["motion", "ssim", "uniform", "random"] = "motion"
    power: AboveZero = 0.5  # exponent of the motion curve
    tau: Annotated[float, Range(0, 1)] = 10 / 255  # grey difference that tells two frames apart
    mcq_share: Share = 0.5  # of the training items
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True)
class Lora:
    kind: Literal["lora", "rslora", "dora"] = "lora"
    rank: Positive = 16
    alpha: AboveZero = 32.0
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    targets: Pattern = ".*"  # of layer paths such as decoder/layers/attn/q, matched in full
    b_lr_ratio: AboveZero = 1.0  # learning rate of B against A's (LoRA+, arXiv 2402.12354: 16)


@dataclass(frozen=True)
class Optim:
    lr: AboveZero = 1e-3
    warmup: Share = 0.05  # of the steps
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    b1: Annotated[float, Range(0, 0.9999)] = 0.9
    b2: Annotated[float, Range(0, 0.99999)] = 0.999
    eps: AboveZero = 1e-8
    weight_decay: NotNegative = 0.0
    clip_norm: NotNegative = 1.0  # 0 = no clipping
    groups: tuple[str, ...] = ()  # "REGEX=MULTIPLIER" of the learning rate, first match counts


@dataclass(frozen=True)
class Train:
    steps: Positive = 1000
    batch_size: Positive = 32  # rows of one micro-batch
    accumulate: Positive = 1  # micro-batches of one step
    trainable: Pattern = "lora"  # adapters, a regex over parameter paths, or both: "lora|REGEX"
    remat: bool = False
    log_every: Positive = 10
    # scenes, rows: ordinary supervised tuning, on procedural clips or on data.mixture
    questions: Literal["fragments", "scenes", "rows"] = "fragments"
    control: Literal["none", "shuffle_labels"] = "none"


@dataclass(frozen=True)
class Rehearsal:
    """Ordinary questions with the base model's own answers, mixed in so that it keeps them."""

    share: Annotated[float, Range(0, 0.9)] = 0.0  # of a micro-batch's examples, on top of its items
    items: Positive = 600  # asked of the base model before training, about training clips
    clips: Literal["all", "real", "procedural"] = "all"  # of training, that are asked about
    questions: tuple[str, ...] = ("Describe the video.",)  # "TEXT", or "TEXT|OPTION|OPTION..."
    frames: Positive = 6


@dataclass(frozen=True)
class Ladder:
    """Longer rows in steps (--job=ladder): a run a rung, on the model of the rung before."""

    base: Count = 0  # tokens of the rows that model.path was trained on
    lengths: tuple[int, ...] = tuple(1024 * 2**n for n in range(5, 11))  # LWM's, 32K to 1M
    rope: Literal["theta_scale", "position_interpolation"] = "theta_scale"
    alpha: AboveZero = 1.0


@dataclass(frozen=True)
class Checkpoint:
    every: Positive = 200  # steps
    max_to_keep: Positive = 2
    save_on_exit: bool = True


@dataclass(frozen=True)
class Eval:
    items_procedural: Count = 300  # per task
    items_real: Count = 150  # per task
    items_scene: Count = 400  # in all
    items_rows: Count = 200  # of data.mixture in all, at most a tenth of a file; not trained on
    batch_size: Positive = 32
    prefill_chunk: Count = 0  # tokens of a prompt that are read at once, 0 = all: docs/attention.md
    seed: Count = 1
    sampler: Literal["motion", "uniform", "random"] = "motion"  # of the sets that are judged
    mcq_share: Share = 0.5  # of the items that are judged
    control: Literal["none", "blank", "no_order"] = "none"
    bootstrap: Positive = 1000  # resamples of the intervals


EXPORTS = ("peft", "hf", "orbax")


@dataclass(frozen=True)
class Export:
    """Only `--job=export` reads it; the flag --export.format sets it too."""

    format: tuple[str, ...] = ("peft", "hf")  # of peft, hf, orbax


@dataclass(frozen=True)
class Planned:
    """Only `--job=plan` reads it; the flag --plan.topology sets its machine too."""

    topology: str = "v5e:4x4"  # v5e, v5p, v6e: AxB or AxBxC; h200:8, h100:8, a100:8, cpu:8
    frames: Count = 64  # of every row; 0 = the batches that the run itself would take, made now
    tokens: Count = 0  # of a row; 0 = those of its frames and 128 of text


@dataclass(frozen=True)
class Pretrain:
    """Only `--job=pretrain` reads these: how vjax-tiny itself is made."""

    stages: tuple[str, ...] = (
        "see", "read", "talk", "watch", "watch", "watch", "watch", "recall", "recall",
    )  # fmt: skip
    clips: Positive = 6000  # procedural, split `base`
    eval_clips: Positive = 400  # procedural, split `base_eval`
    vocab: Positive = 768
    width: Positive = 128
    tower_layers: Positive = 4
    decoder_layers: Positive = 5
    heads: Positive = 4
    kv_heads: Positive = 2
    ffn: Positive = 384  # of the decoder; the tower's is 4 times the width
    image_size: Positive = 48
    patch_size: Positive = 16
    fps: AboveZero = 3.0
    tower_steps: Positive = 3000  # of `see`
    tower_batch_size: Positive = 192
    tower_lr: AboveZero = 3e-3
    reading_steps: Positive = 3000  # of `read`; those of `talk` are train.steps
    tower_multiplier: NotNegative = 0.3  # of the tower's learning rate in `talk`
    watching_steps: Positive = 2000  # of `watch`
    recalling_steps: Positive = 2500  # of `recall`
    letter_weight: AboveZero = 5.0  # loss weight of option letters, Yes and No


@dataclass(frozen=True)
class ZeroShot:
    """Images sorted by an image and a text tower (--job=zeroshot)."""

    images: str = "cifar10"  # that data set's test images, or a folder of images
    classes: tuple[str, ...] = ()  # names; those of the data set, or of the folder's folders, if ()
    templates: tuple[str, ...] = ("a photo of a {}.",)  # what a class is called; vectors averaged
    most: Count = 0  # images; 0 = all
    batch_size: Positive = 64


@dataclass(frozen=True)
class Needle:
    """A picture hidden among frames (--job=needle): docs/needle.md."""

    lengths: tuple[int, ...] = (4, 8, 16, 32, 64)  # frames of the haystacks
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)  # 0: before all frames, 1: after them
    file: str = ""  # needles, .json or .jsonl; cards that are drawn when empty
    folder: str = ""  # that its images are relative to (the file's own where empty)
    haystacks: Positive = 1  # that each needle is hidden in
    fps: AboveZero = 1.0  # frames a second of the videos that haystacks are made of
    seed: Count = 0  # of the cards, and of where haystacks begin
    batch_size: Positive = 8  # prompts at a time; of long haystacks fewer
    beyond: bool = False  # ask at lengths beyond max_position_embeddings too
    # --job=needle_rows: how many rows are written, and most frames of one; where a run's model is
    # asked, the latter is a line in the picture
    rows: Positive = 2000
    trained: Count = 0


@dataclass(frozen=True)
class MeshShape:
    """Devices along each mesh axis; their product is the number of devices used."""

    data: Positive = 1
    fsdp: Positive = 1
    context: Positive = 1
    tensor: Positive = 1


@dataclass(frozen=True)
class Config:
    """One run. What a group's fields mean stands beside them."""

    name: str = ""  # of the experiment; its file's name when empty
    preset: str = ""  # the file's argument when empty, or `default`
    seed: Count = 0
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    index: Index = field(default_factory=Index)
    sampling: Sampling = field(default_factory=Sampling)
    store: Store = field(default_factory=Store)
    fragments: Fragments = field(default_factory=Fragments)
    lora: Lora = field(default_factory=Lora)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    rehearsal: Rehearsal = field(default_factory=Rehearsal)
    ladder: Ladder = field(default_factory=Ladder)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    eval: Eval = field(default_factory=Eval)
    export: Export = field(default_factory=Export)
    plan: Planned = field(default_factory=Planned)
    zeroshot: ZeroShot = field(default_factory=ZeroShot)
    needle: Needle = field(default_factory=Needle)
    mesh: MeshShape = field(default_factory=MeshShape)
    pretrain: Pretrain = field(default_factory=Pretrain)


# prefixes of fields that say how a run is carried out, not what comes of it: free on resume
EXECUTION = (
    "data.workers", "data.read_threads", "data.processes", "data.show_batch", "store.runner",
    "store.beam", "train.log_every", "checkpoint.", "mesh.", "export.", "plan.",
    "model.attention", "model.context_parallel", "model.tower_batch", "model.vision_cache",
    "eval.prefill_chunk",
)  # fmt: skip
# and of those that say how a run is judged, by job; of a job that is not here, JUDGING
JUDGING = ("needle.", "eval.")
FREE = {
    "train": ("needle.",),
    "needle_rows": ("eval.",),
    "needle": (*JUDGING, "data.source", "data.clips", "data.on_bad_clip", "data.max_bad_share"),
}
