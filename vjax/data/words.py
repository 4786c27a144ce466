"""What the decoder of vjax-tiny reads before it sees anything: short conversations in words.

A Video-LLM starts from a language model. Ours is too small to have read much: captions, letters
that stand for options or for things, numerals, and whether two things are the same.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vjax.data.items import scene_prompt
from vjax.fragments.common import MCQ_INSTRUCTION, lettered
from vjax.fragments.consistency import INSTRUCTION as YES_NO_INSTRUCTION
from vjax.fragments.record import LETTERS
from vjax.prompts import Prompt
from vjax.video.rng import pick
from vjax.video.world import differences, questions
from vjax.video.world import scene as scene_lib
from vjax.video.world.scene import Scene

CHOICE_SHARE = 0.5
READING_SHARE = 0.2
ECHO_SHARE = 0.1
SUM_SHARE = 0.12
FINDING_SHARE = 0.45
ALIKE_SHARE = 0.13
ECHOED = (1, 3, 4, 5)  # numerals in a row
SAY = ("Say", "Repeat", "Write", "Copy")
FIND = ("Which is this?", "Which letter is this?", "Which shows this?", "Find this.")
IN_CAPTION = ("action", "effect", "speed", "colour", "shape", "other_colour", "other_shape", "side")
THINGS = [f"{colour} {shape}" for colour in scene_lib.COLOURS for shape in scene_lib.SHAPES]
NAMES = (list(scene_lib.COLOURS), list(scene_lib.SHAPES), THINGS)  # by one word, or by two


def yes_no(so: bool, rng: np.random.Generator) -> tuple[str, str]:
    """(how to answer, the answer): by letter or word; half of the latter do not say how."""
    answer = "Yes" if so else "No"
    if rng.random() < CHOICE_SHARE:
        options = ("Yes", "No") if rng.random() < 0.5 else ("No", "Yes")
        return f"{lettered(options)}\n{MCQ_INSTRUCTION}", LETTERS[options.index(answer)]
    return ("\n" + YES_NO_INSTRUCTION if rng.random() < 0.5 else ""), answer


def reading(scene: Scene, rng: np.random.Generator) -> list[Prompt]:
    """A caption to read, and two questions about it, answered by letters."""
    tasks = [task for task in questions.tasks(scene) if task in IN_CAPTION]
    turns = [
        scene_prompt(questions.scene_question(scene, tasks[n], rng), ())
        for n in rng.permutation(len(tasks))[:2]
    ]
    text = ("text", questions.caption(scene, rng)[1] + "\n")
    return [dataclasses.replace(turns[0], parts=(text, *turns[0].parts)), *turns[1:]]


def echo(rng: np.random.Generator) -> list[Prompt]:
    """Numerals to repeat or to pick, of nothing.

    In one trial a base that had never said any was at a mean loss of 3.2 over its first 100 steps
    of SF2T, and its scene answers fell to chance while it learnt to.
    """
    length = int(rng.choice(ECHOED, p=(0.4, 0.2, 0.2, 0.2)))
    drawn = {",".join(map(str, 1 + rng.permutation(5)[:length])) for _ in range(40)}
    some = [sorted(drawn)[n] for n in rng.permutation(len(drawn))[: int(rng.integers(3, 6))]]
    answer = pick(rng, some)
    if rng.random() < CHOICE_SHARE:
        return [scene_prompt((f"Which is {answer}?", some, some.index(answer)), ())]
    return [scene_prompt((f"{pick(rng, SAY)} {answer}.", (), answer), ())]


def adding(rng: np.random.Generator) -> list[Prompt]:
    """A sum of at most 5: a numeral that is nowhere in the question."""
    total = int(rng.integers(2, 6))
    part = int(rng.integers(1, total))
    question = f"{part} + {total - part}?"
    if rng.random() < CHOICE_SHARE:
        others = [n for n in range(1, 6) if n != total]
        some = [total, *(others[k] for k in rng.permutation(4)[: int(rng.integers(2, 5))])]
        some = [some[k] for k in rng.permutation(len(some))]
        return [scene_prompt((question, [str(n) for n in some], some.index(total)), ())]
    return [scene_prompt((question, (), str(total)), ())]


def finding(rng: np.random.Generator) -> list[Prompt]:
    """Things, each after a letter in any order, and some of them again: which letters?

    Several questions about one list: with one of them 2,000 steps taught nothing.
    """
    kind = NAMES[int(rng.integers(len(NAMES)))]
    things = [kind[k] for k in rng.permutation(len(kind))[: int(rng.integers(2, 6))]]
    letters = [LETTERS[k] for k in rng.permutation(len(LETTERS))[: len(things)]]
    lines = "".join(f"{a}. {thing}\n" for a, thing in zip(letters, things, strict=True))
    turns = []
    for n in rng.permutation(len(things)):
        text = f"{pick(rng, FIND)} {things[n]}"
        turns.append(Prompt((("text", text),), (), letters[n], tuple(sorted(letters))))
    first = turns[0].parts[0][1]
    return [dataclasses.replace(turns[0], parts=(("text", lines + first),)), *turns[1:]]


def alike(rng: np.random.Generator) -> list[Prompt]:
    """Two things, and whether they differ."""
    one, other = (THINGS[k] for k in rng.permutation(len(THINGS))[:2])
    so = bool(rng.random() < 0.5)
    ask, answer = yes_no(so, rng)
    text = f"{one}\n{other if so else one}\n{pick(rng, differences.ANY)}{ask}"
    return [Prompt((("text", text),), (), answer)]


def one_of(
    kinds: Mapping[str, tuple[float, Callable[[], list[Prompt]]]], rng: np.random.Generator
) -> list[Prompt]:
    """A conversation of one of the kinds; each is its share and what makes one."""
    shares = [share for share, _ in kinds.values()]
    return kinds[rng.choice([*kinds], p=shares)][1]()


def conversation(scene: Scene, rng: np.random.Generator) -> list[Prompt]:
    """A conversation of one of the kinds, each in its share."""
    kinds = {
        "reading": (READING_SHARE, lambda: reading(scene, rng)),
        "echo": (ECHO_SHARE, lambda: echo(rng)),
        "adding": (SUM_SHARE, lambda: adding(rng)),
        "finding": (FINDING_SHARE, lambda: finding(rng)),
        "alike": (ALIKE_SHARE, lambda: alike(rng)),
    }
    return one_of(kinds, rng)


def about(scenes: Sequence[Scene]) -> Callable[[np.random.Generator], list[Prompt]]:
    """Draws conversations about random scenes."""
    return lambda rng: conversation(pick(rng, scenes), rng)
