"""Makes vjax-tiny: a tower sees frames, a decoder reads, both talk about clips, then watch them."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from vjax.config import Config
from vjax.console import progress, say, table
from vjax.data import sight, words
from vjax.data.collate import to_model_size
from vjax.data.conversations import WATCH, SceneClip, about
from vjax.data.fragments import ROW_TOKENS
from vjax.data.items import SceneItem
from vjax.data.scenes import ConversationBatches, batch_shape, vocabulary
from vjax.evals.run import evaluate
from vjax.evals.statistics import wilson
from vjax.families import read_spec
from vjax.families.spec import DecoderSpec, ModelSpec, ProjectorSpec, TowerSpec, VideoSpec
from vjax.fragments import TASKS
from vjax.fragments.common import MCQ_INSTRUCTION
from vjax.interop import save_model
from vjax.interop.load import load_weights
from vjax.jobs._fit import fit, make_tools
from vjax.models.video_llm import VideoLLM
from vjax.prompts import Prompt
from vjax.prompts import tokenizer as tokenizer_lib
from vjax.prompts.chat import Chat
from vjax.train.tower import train_tower
from vjax.video.frames import Clip, FrameTable
from vjax.video.world import questions, scene
from vjax.video.world.render import render

STORE_SIZE = 96
EVAL_FRAMES = 6


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Writes workdir/model: weights, tokenizer, chat template, video spec and model card."""
    options = config.pretrain
    base = scene_clips("base", options.clips, config)
    held = scene_clips("base_eval", options.eval_clips, config)
    folder = workdir / "model"
    folder.mkdir(parents=True, exist_ok=True)
    video = video_spec(config)
    (folder / "video_spec.json").write_text(json.dumps(dataclasses.asdict(video), indent=2) + "\n")
    before = 0.0  # seconds of the first two stages
    if config.model.path:
        model, chat = earlier(Path(config.model.path), folder)
    else:
        model, chat = new(config, folder, [clip.scene for clip in base[:3000]])
        seen, reading = workdir / "seen", workdir / "reading"
        model, seeing = once(seen, model.spec, lambda: see(config, model, base))
        model, took = once(
            workdir / "read", model.spec, lambda: read(config, reading, model, chat, base)
        )
        before = seeing + took
    parts = nnx.split(model, nnx.Param, ...)
    make_batch = talk(config, about(base, options.fps), chat, model.spec)
    tools = make_tools(config, parts[1], groups=(f"tower/.*={options.tower_multiplier}",))
    state, seconds = fit(config, workdir, make_batch, parts, video, *tools)
    graphdef, _, frozen = parts
    spec = model.spec
    if options.watching_steps:
        last = with_steps(config, options.watching_steps)
        make_batch = talk(config, about(base, options.fps, WATCH), chat, spec)
        (workdir / "watching").mkdir(exist_ok=True)
        state, more = fit(
            last, workdir / "watching", make_batch, (graphdef, state.trainable, frozen), video,
            *make_tools(last, parts[1]),
        )  # fmt: skip
        seconds += more
    scores = judge(config, graphdef, state.trainable, held, chat, spec, video)
    save_model(folder, nnx.merge(graphdef, state.trainable, frozen))
    (folder / "README.md").write_text(card(config, spec, scores, (before + seconds) / 60))
    say(f"model: {folder}; --config.model.path={folder} trains on it")


def video_spec(config: Config) -> VideoSpec:
    return VideoSpec(config.pretrain.image_size, STORE_SIZE, fps=config.pretrain.fps)


def scene_clips(split: str, count: int, config: Config) -> list[SceneClip]:
    """Clips of the world at the model's input size, rendered and not encoded."""
    spawn = multiprocessing.get_context("spawn")
    workers = max(1, config.data.workers)
    jobs = [(split, seed, config.pretrain.image_size) for seed in range(count)]
    with (
        concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as pool,
        progress(total=count, desc=f"render {split}", unit="clip") as bar,
    ):
        clips = []
        for clip in pool.map(_scene_clip, jobs, chunksize=25):
            clips.append(clip)
            bar.update()
    return clips


def _scene_clip(job: tuple[str, int, int]) -> SceneClip:
    split, seed, size = job
    truth = scene.sample_scene(seed, split)
    frames = np.stack([to_model_size(frame, size) for frame in render(truth)])
    return SceneClip(truth, np.arange(len(frames)) / truth.fps, frames)


def earlier(start: Path, folder: Path) -> tuple[VideoLLM, Chat]:
    """A model made before, to go on with; its tokenizer and chat template go to `folder`."""
    spec = read_spec(start)
    for name in ("tokenizer.json", "chat_template.jinja"):
        (folder / name).write_bytes((start / name).read_bytes())
    return load_weights(start, spec), Chat.from_folder(folder, spec)


def new(config: Config, folder: Path, scenes: list[scene.Scene]) -> tuple[VideoLLM, Chat]:
    """A fresh model; its tokenizer and chat template are written to `folder`."""
    options = config.pretrain
    fragment_texts = [
        f"{text}\n{module.INSTRUCTION}\n{MCQ_INSTRUCTION}"
        for module in TASKS.values()
        for templates in module.TEMPLATES.values()
        for text in templates
    ]
    texts = vocabulary(scenes) + 200 * fragment_texts + 100 * ["Yes", "No"]
    tokenizer = tokenizer_lib.train(texts, options.vocab)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(tokenizer_lib.TINY_TEMPLATE)
    ids = {name: tokenizer.token_to_id(name) for name in tokenizer_lib.SPECIAL}
    width = options.width
    spec = ModelSpec(
        family="llava",
        vision=TowerSpec(
            width, options.tower_layers, options.heads, 4 * width, options.image_size,
            options.patch_size,
        ),
        projector=ProjectorSpec(),
        text=DecoderSpec(
            width, options.decoder_layers, options.heads, options.kv_heads, width // options.heads,
            options.ffn, options.vocab,
        ),
        image_token_id=ids[tokenizer_lib.IMAGE],
        frame_token_id=ids[tokenizer_lib.FRAME],
        end_token_id=ids[tokenizer_lib.END],
        pad_token_id=ids[tokenizer_lib.PAD],
    )  # fmt: skip
    return VideoLLM(spec, rngs=nnx.Rngs(config.seed)), Chat.from_folder(folder, spec)


def once(folder: Path, spec: ModelSpec, make: Callable[[], VideoLLM]) -> tuple[VideoLLM, float]:
    """The model of `make`, kept in `folder` for a rerun to read, and the seconds it took."""
    if not folder.exists():
        began = time.perf_counter()
        unfinished = folder.with_suffix(".unfinished")
        save_model(unfinished, make(), dtype="float32")
        (unfinished / "seconds").write_text(f"{time.perf_counter() - began:.0f}")
        unfinished.rename(folder)
    return load_weights(folder, spec), float((folder / "seconds").read_text())


def see(config: Config, model: VideoLLM, clips: list[SceneClip]) -> VideoLLM:
    """The first stage: see `vjax.train.tower`."""
    options = config.pretrain
    if not options.tower_steps:
        return model
    with progress(total=options.tower_steps, desc="see frames", unit="step") as bar:

        def on_step(n: int, losses: dict[str, jax.Array]):
            bar.update()
            if n % 100 == 0 or n == options.tower_steps:
                said = " ".join(f"{name} {float(loss):.3f}" for name, loss in losses.items())
                bar.set_postfix_str(said)
                if n == options.tower_steps:
                    say(f"losses of the last step: {said}")

        model.tower = train_tower(
            model.tower, sight.CLASSES,
            sight.SightBatches(clips, options.tower_batch_size, config.seed),
            steps=options.tower_steps, lr=options.tower_lr, seed=config.seed, on_step=on_step,
        )  # fmt: skip
    return model


def read(
    config: Config, workdir: Path, model: VideoLLM, chat: Chat, clips: list[SceneClip]
) -> VideoLLM:
    """The second stage: the decoder reads, the rest stays as it is."""
    steps = config.pretrain.reading_steps
    if not steps:
        return model
    config = with_steps(config, steps)
    parts = nnx.split(model, nnx.All(nnx.Param, nnx.PathContains("decoder")), ...)
    workdir.mkdir(exist_ok=True)
    draw = words.about([clip.scene for clip in clips])
    make_batch = talk(config, draw, chat, model.spec)
    shape = dataclasses.replace(make_batch.shape, images=1)  # of which none is shown
    make_batch = dataclasses.replace(make_batch, shape=shape)
    tools = make_tools(config, parts[1])
    state, _ = fit(config, workdir, make_batch, parts, video_spec(config), *tools)
    return nnx.merge(parts[0], state.trainable, parts[2])


def with_steps(config: Config, steps: int) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))


def talk(
    config: Config, draw: Callable[[np.random.Generator], list[Prompt]], chat: Chat, spec: ModelSpec
) -> ConversationBatches:
    """Batches of conversations, in the shape that all stages share."""
    shape = batch_shape(config.train.batch_size, spec.vision.image_size, spec.vision.patches)
    weight = config.pretrain.letter_weight
    return ConversationBatches(draw, chat, shape, spec.pad_token_id, config.seed, weight)


def judge(config: Config, graphdef, state, clips, chat, spec, video) -> dict[str, tuple[int, int]]:
    """(right, asked) of every scene task on held-out clips."""
    by_key = {clip.scene.video_id: clip for clip in clips}

    def clip_of(key: str) -> Clip:
        clip = by_key[key]
        table = FrameTable(
            key, key, "", np.arange(len(clip.time), dtype=np.int32), clip.time, STORE_SIZE,
            STORE_SIZE, 0,
        )  # fmt: skip
        return Clip(table, clip.frames, np.zeros(len(clip.time) - 1, np.int64), key)

    items = [
        SceneItem(clip.scene, key, task, video.fps, EVAL_FRAMES, config.eval.seed)
        for key, clip in by_key.items()
        for task in questions.SCENE_TASKS
        if task in questions.tasks(clip.scene)
    ]
    with progress(total=len(items), desc="scene questions", unit="item") as bar:
        found = evaluate(
            {"scene": items}, (graphdef, state), chat, clip_of, image_size=video.image_size,
            pad_token_id=spec.pad_token_id, batch_size=config.eval.batch_size, on_batch=bar.update,
        )["scene"]  # fmt: skip
    scores = {}
    for task in questions.SCENE_TASKS:
        right = [item.correct for item in found if item.task == task]
        scores[task] = (sum(right), len(right))
    rows = [(task, right / n, *wilson(right, n), n) for task, (right, n) in scores.items()]
    say(table(("task", "accuracy", "low", "high", "n"), rows))
    return scores


def card(
    config: Config, spec: ModelSpec, scores: dict[str, tuple[int, int]], minutes: float
) -> str:
    """The model card."""
    options = config.pretrain
    lines = [
        "# vjax-tiny",
        "",
        "A Video-LLM of about two million parameters, to try vjax on a laptop and to test it with. "
        "A SigLIP-shaped tower, a two-layer projector and a Qwen2-shaped decoder in the layout of "
        "transformers' `LlavaForConditionalGeneration`; trained by vjax from nothing on procedural "
        "clips. It knows coloured shapes, and no other world. Apache-2.0.",
        "",
        "| | |",
        "|---|---|",
        f"| made by | `./launch/local python -m vjax.main --config=experiments/{config.name}.py "
        "--job=pretrain` |",
        f"| data | {options.clips:,} procedural clips (split `base`): captions, comparisons, "
        "scene questions; nothing about the number, order or position of frames; in words alone "
        "also numerals, sums of two and letters that stand for things |",
        f"| stage 1 | {options.tower_steps:,} steps of {options.tower_batch_size} frames: the "
        "tower learns what is there, where, in what state, each patch's pixels, and which frames "
        "are the same moment |",
        f"| stage 2 | {options.reading_steps:,} steps of {config.train.batch_size} rows of "
        f"{ROW_TOKENS} tokens: the decoder reads |",
        f"| stage 3 | {config.train.steps:,} steps of as many: all parameters learn to describe, "
        "compare, match and answer |",
        f"| stage 4 | {options.watching_steps:,} steps of as many: mostly scene questions |",
        f"| time | {minutes:.0f} minutes |",
        f"| input | frames of {spec.vision.image_size} x {spec.vision.image_size} pixels, "
        f"{spec.vision.patches} tokens each, scene questions at {options.fps:g} frames a second |",
        "",
        "Held-out scene questions, four options (split `base_eval`, likelihood of the letter):",
        "",
        "| task | accuracy | 95 % interval | n |",
        "|---|---|---|---|",
    ]
    for task, (right, n) in scores.items():
        low, high = wilson(right, n)
        lines.append(f"| {task} | {right / n:.3f} | {low:.3f} to {high:.3f} | {n} |")
    return "\n".join(lines) + "\n"
