"""Makes vjax-tiny, stage by stage: a tower sees, a decoder reads, both talk about clips, watch."""

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
from vjax.console import UserError, progress, say, table
from vjax.data import sight, words
from vjax.data.conversations import RECALL, WATCH, SceneClip, about
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
from vjax.prompts.pixels import to_model_size
from vjax.train.tower import train_tower
from vjax.video.frames import Clip, FrameTable
from vjax.video.world import questions, scene
from vjax.video.world.render import render

STORE_SIZE = 96
EVAL_FRAMES = 6


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Writes workdir/model: weights, tokenizer, chat template, video spec and model card.

    Raises:
      UserError: a stage that is not known, or frames that are no whole clips.
    """
    options = config.pretrain
    for name in options.stages:
        if name not in STAGES:
            raise UserError(f"pretrain.stages: {name!r} is none of {', '.join(STAGES)}")
    sight.check_batch_size(options.tower_batch_size)  # not after minutes of rendering
    base = scene_clips("base", options.clips, config)
    held = scene_clips("base_eval", options.eval_clips, config)
    folder = workdir / "model"
    folder.mkdir(parents=True, exist_ok=True)
    video = video_spec(config)
    (folder / "video_spec.json").write_text(json.dumps(dataclasses.asdict(video), indent=2) + "\n")
    if config.model.path:
        model, chat = earlier(Path(config.model.path), folder)
    else:
        model, chat = new(config, folder, [clip.scene for clip in base[:3000]])
    seconds = 0.0
    for n, name in enumerate(options.stages):
        # a stage that comes again draws other batches
        stage = Stage(dataclasses.replace(config, seed=config.seed + n), chat, base)
        model, took = stage.once(workdir / "stages" / f"{n + 1}-{name}", STAGES[name][0], model)
        seconds += took
    scores = judge(config, *nnx.split(model), held, chat, model.spec, video)
    save_model(folder, model)
    (folder / "README.md").write_text(card(config, model.spec, scores, seconds / 60))
    say(f"model: {folder}; --config.model.path={folder} trains on it")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of pretraining: a model goes in, a better one comes out."""

    config: Config
    chat: Chat
    clips: list[SceneClip]

    def once(
        self, folder: Path, learn: Callable[..., tuple[VideoLLM, float]], model: VideoLLM
    ) -> tuple[VideoLLM, float]:
        """What `learn` makes of the model, and its seconds; kept in `folder` for a rerun."""
        kept = folder / "model"
        if not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            made, seconds = learn(self, folder, model)
            unfinished = folder / "unfinished"
            save_model(unfinished, made, dtype="float32")
            (unfinished / "seconds").write_text(f"{seconds:.0f}")
            unfinished.rename(kept)
        return load_weights(kept, model.spec), float((kept / "seconds").read_text())

    def see(self, folder: Path, model: VideoLLM) -> tuple[VideoLLM, float]:
        """The tower sees single frames: see `vjax.train.tower`. Not to be resumed half-way."""
        options, began = self.config.pretrain, time.perf_counter()
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
                sight.SightBatches(self.clips, options.tower_batch_size, self.config.seed),
                steps=options.tower_steps, lr=options.tower_lr, seed=self.config.seed,
                on_step=on_step,
            )  # fmt: skip
        return model, time.perf_counter() - began

    def read(self, folder: Path, model: VideoLLM) -> tuple[VideoLLM, float]:
        """The decoder reads words, the rest stays as it is."""
        draw = words.about([clip.scene for clip in self.clips])
        decoder = nnx.All(nnx.Param, nnx.PathContains("decoder"))
        steps = self.config.pretrain.reading_steps
        return self._converse(folder, model, draw, steps, train=decoder, images=1)  # never shown

    def talk(self, folder: Path, model: VideoLLM) -> tuple[VideoLLM, float]:
        """All parts learn to describe, compare, match and answer."""
        options = self.config.pretrain
        draw = about(self.clips, options.fps)
        groups = (f"tower/.*={options.tower_multiplier}",)
        return self._converse(folder, model, draw, self.config.train.steps, groups=groups)

    def watch(self, folder: Path, model: VideoLLM) -> tuple[VideoLLM, float]:
        """All parts learn to answer, mostly scene questions."""
        options = self.config.pretrain
        draw = about(self.clips, options.fps, WATCH)
        return self._converse(folder, model, draw, options.watching_steps)

    def recall(self, folder: Path, model: VideoLLM) -> tuple[VideoLLM, float]:
        """All parts learn to answer scene questions still, and to see noise again."""
        options = self.config.pretrain
        draw = about(self.clips, options.fps, RECALL)
        return self._converse(folder, model, draw, options.recalling_steps)

    def _converse(
        self, folder: Path, model: VideoLLM, draw: Callable[[np.random.Generator], list[Prompt]],
        steps: int, *, train=nnx.Param, groups: tuple[str, ...] = (), images: int | None = None,
    ) -> tuple[VideoLLM, float]:  # fmt: skip
        """Takes `steps` on drawn conversations; resumes from the folder's checkpoints.

        Args:
          train: filter of the variables that learn.
          images: slots of the vision buffer; what conversations need if None.
        """
        whole, spec = self.config, model.spec
        config = dataclasses.replace(whole, train=dataclasses.replace(whole.train, steps=steps))
        shape = batch_shape(config.train.batch_size, spec.vision.image_size, spec.vision.patches)
        shape = dataclasses.replace(shape, images=images or shape.images)
        weight = config.pretrain.letter_weight
        make_batch = ConversationBatches(
            draw, self.chat, shape, spec.pad_token_id, config.seed, weight
        )
        parts = nnx.split(model, train, ...)
        tools = make_tools(config, parts[1], groups=groups)
        state, seconds = fit(config, folder, make_batch, parts, video_spec(config), *tools)
        return nnx.merge(parts[0], state.trainable, parts[2]), seconds


# name -> what a model learns in it, and how the model card says so
STAGES: dict[str, tuple[Callable[..., tuple[VideoLLM, float]], str]] = {
    "see": (
        Stage.see,
        "{tower_steps:,} steps of {tower_batch_size} frames: the tower learns what is there, "
        "where, in what state, each patch's pixels, noise, and which frames are the same moment",
    ),
    "read": (
        Stage.read,
        "{reading_steps:,} steps of {batch_size} rows of {row} tokens: the decoder reads",
    ),
    "talk": (
        Stage.talk,
        "{steps:,} steps of as many rows: all parameters learn to describe, compare, match and "
        "answer",
    ),
    "watch": (
        Stage.watch,
        "{watching_steps:,} steps of as many rows: mostly scene questions",
    ),
    "recall": (
        Stage.recall,
        "{recalling_steps:,} steps of as many rows: scene questions, and noise to spot",
    ),
}


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
            pad_token_id=spec.pad_token_id, batch_size=config.eval.batch_size,
            prefill_chunk=config.eval.prefill_chunk, on_batch=bar.update,
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
    sizes = dataclasses.asdict(options) | dataclasses.asdict(config.train) | {"row": ROW_TOKENS}
    learnt = [STAGES[name][1].format(**sizes) for name in options.stages]
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
        *(f"| stage {n} | {text} |" for n, text in enumerate(learnt, 1)),
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
