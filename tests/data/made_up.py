"""A chat, clips, plans and a model small enough for tests that put rooms together."""

import functools
import re

import numpy as np

from tests.fragments.clips import clip_of, moving_squares, named
from vjax.data.collate import Shape, collate
from vjax.data.fragments import ROW_TOKENS, FragmentBatches, Lengths
from vjax.data.plan import TrainPlan
from vjax.data.scenes import vocabulary
from vjax.families.spec import DecoderSpec, ModelSpec, ProjectorSpec, TowerSpec, VideoSpec
from vjax.fragments import TASKS, FragmentConfig
from vjax.fragments.common import MCQ_INSTRUCTION
from vjax.prompts import Prompt, tokenizer
from vjax.prompts.chat import Chat
from vjax.prompts.media import Squares
from vjax.video.world import scene as scene_lib

VOCAB = 512
PAD, END, USER, ASSISTANT, FRAME, IMAGE = range(6)
SPEC = ModelSpec(
    family="llava",
    vision=TowerSpec(width=32, layers=2, heads=2, ffn=48, image_size=16, patch_size=8),
    projector=ProjectorSpec(),
    text=DecoderSpec(width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, vocab=VOCAB),
    image_token_id=IMAGE,
    frame_token_id=FRAME,
    end_token_id=END,
    pad_token_id=PAD,
)
VIDEO = VideoSpec(image_size=16, store_size=32, fps=3.0)
CFG = FragmentConfig(seed=3, model_size=16)
ONE_EACH = dict.fromkeys(TASKS, 1.0)


@functools.cache
def small_tokenizer():
    texts = vocabulary([scene_lib.sample_scene(seed, "test") for seed in range(40)])
    texts += [
        f"{text}\n{task.INSTRUCTION}\n{MCQ_INSTRUCTION}"
        for task in TASKS.values()
        for templates in task.TEMPLATES.values()
        for text in templates
    ]
    return tokenizer.train([*texts, "Yes", "No"], VOCAB)


@functools.cache
def chat() -> Chat:
    return Chat(small_tokenizer(), tokenizer.TINY_TEMPLATE, SPEC, Squares.of(SPEC))


@functools.cache
def clips(real: int = 12, procedural: int = 12) -> dict:
    """Clips by key; keys of a source start with its name."""
    few = [clip_of(moving_squares(20, seed)[:, ::3, ::3]) for seed in range(3)]
    names = [f"real/{n}" for n in range(real)] + [f"procedural/{n}" for n in range(procedural)]
    return {name: named(few[n % 3], f"{name}.mp4") for n, name in enumerate(names)}


def clip_at(key: str):
    return clips()[key]


def keys(source: str) -> list[str]:
    return [key for key in clips() if key.startswith(source)]


def plan(*, seed=3, batch_size=8, weights=None, procedural_share=0.5, **only) -> TrainPlan:
    """A plan over all clips, or over those given as real=[...], procedural=[...]."""
    return TrainPlan(
        only or {source: keys(source) for source in ("real", "procedural")},
        clip_at,
        FragmentConfig(seed=seed, model_size=16),
        weights=ONE_EACH | (weights or {}),
        procedural_share=procedural_share,
        batch_size=batch_size,
        length_of=Lengths(chat(), clip_at),
    )


def batches(made: TrainPlan, shape=None, **options) -> FragmentBatches:
    shape = shape or made.shape(ROW_TOKENS, image_size=16, patches=SPEC.vision.patches)
    return FragmentBatches(made, chat(), shape, PAD, **options)


def question(text: str, answer: str, images: int = 2, seed: int = 0) -> Prompt:
    rng = np.random.default_rng(seed)
    frames = tuple(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8) for _ in range(images))
    parts = tuple(("frame", n) for n in range(images)) + (("text", text),)
    return Prompt(parts, frames, answer, (answer, "No"))


def examples() -> list:
    """Encoded questions of unequal length, with answers of unequal length."""
    asked = [
        ("Is it the same moment in each frame?", "Yes", 2),
        ("Count the frames.", "4", 4),
        ("In which order do they belong? Answer with positions.", "2,4,1,3", 4),
        ("What do you see?", "a red square pushes a blue circle to the right.", 3),
    ]
    return [chat().encode(question(*of, seed=n)) for n, of in enumerate(asked)]


def batch(rows, *, height=None, length=96, images=16) -> dict[str, np.ndarray]:
    shape = Shape(height or len(rows), length, images, 16, SPEC.vision.patches)
    return collate(rows, shape, pad_token_id=PAD)


def options_of(turn):
    """{letter: text} of the options that a question lists."""
    return dict(re.findall(r"^([A-E])\. (.+)$", turn.parts[-1][1], re.MULTILINE))
