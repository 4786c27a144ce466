"""What can be asked about a scene whose truth is known: captions and four-option questions.

Few words and short sentences, for a tiny decoder. Nothing here speaks of how many pictures there
are or how they follow each other: those are what SF2T has to teach.
"""

from __future__ import annotations

import numpy as np

from vjax.video.rng import pick
from vjax.video.world import scene as scene_lib
from vjax.video.world.scene import Scene

SCENE_TASKS = ("action", "effect", "speed")
PLAIN_TASKS = (
    "colour", "shape", "other_colour", "other_shape", "side", "background", "ambient",
)  # fmt: skip

_DOES = {"push": "pushes", "pull": "pulls", "cover": "covers", "drop": "drops", "turn": "turns",
         "pass": "passes"}  # fmt: skip
_DONE = {"push": "pushed", "pull": "pulled", "cover": "covered", "pass": "passed",
         "drop": "still", "turn": "still"}  # fmt: skip
_EFFECT = {"trail": "leaves a trail", "melts": "melts", "grows": "grows", "fades": "fades",
           "breaks": "breaks", "paints": "changes colour", "nothing": "nothing"}  # fmt: skip
WALL = {"clouds": "clouds", "stripes": "stripes", "checks": "checks", "gradient": "shades",
        "bricks": "bricks", "dots": "dots", "wood": "wood"}  # fmt: skip
_AMBIENT = {"candle": "a candle burns down", "bar": "a bar fills up", "sand": "sand piles up",
            "plant": "a plant sprouts", "glass": "water fills a glass",
            "drip": "paint drips down"}  # fmt: skip
_SIDE = {"left": "to the left", "right": "to the right", "down": "down", "place": "in place"}

_VALUES = {
    "action": list(_DOES.values()), "effect": list(_EFFECT.values()),
    "speed": list(scene_lib.SPEEDS), "colour": list(scene_lib.COLOURS),
    "shape": list(scene_lib.SHAPES), "other_colour": list(scene_lib.COLOURS),
    "other_shape": list(scene_lib.SHAPES), "side": list(_SIDE.values()),
    "background": list(WALL.values()), "ambient": list(_AMBIENT.values()),
}  # fmt: skip

_QUESTIONS = {
    "action": ("What is the action?", "What does the shape do?", "Which action do you see?",
               "What kind of action is this?", "What is being done?"),
    "effect": ("What is the effect?", "What effect does it have?", "Which effect do you see?",
               "What kind of effect is this?", "What comes of it?"),
    "speed": ("What is the speed?", "How fast is it?", "Which speed do you see?",
              "What kind of speed is this?", "How fast does it move?"),
    "colour": ("What colour is the thing that {does}?", "Which colour has the thing that {does}?",
               "The thing that {does} has which colour?", "What is the colour of what {does}?"),
    "shape": ("What shape is the thing that {does}?", "Which shape has the thing that {does}?",
              "The thing that {does} has which shape?", "What is the shape of what {does}?"),
    "other_colour": ("What colour is the thing that is {done}?",
                     "Which colour has the thing that is {done}?",
                     "The thing that is {done} has which colour?",
                     "What is the colour of what is {done}?"),
    "other_shape": ("What shape is the thing that is {done}?",
                    "Which shape has the thing that is {done}?",
                    "The thing that is {done} has which shape?",
                    "What is the shape of what is {done}?"),
    "side": ("Which way does it move?", "Where does the {shape} move?", "Where does it go?",
             "Which side does the {shape} move to?"),
    "background": ("What is on the wall?", "What does the wall show?",
                   "What do you see on the wall?", "Which pattern is behind?"),
    "ambient": ("What else happens?", "What happens behind?", "What else do you see?",
                "What goes on by the wall?"),
}  # fmt: skip

_ASK_CAPTION = (
    "Describe the video.", "What happens here?", "What do you see?", "Tell me what happens.",
    "Write a caption.", "What is going on?", "What does the video show?",
)  # fmt: skip
_CAPTIONS = (
    "{Act} {side}. {Effect}. The speed is {speed}. The wall shows {wall}.",
    "{Act} {side}. {Effect} and {ambient}. The speed is {speed}.",
    "By a wall with {wall}, {act} {side}. {Effect}. It is {speed}.",
    "The speed is {speed}. {Act} {side}. {Effect}. Behind, {ambient}.",
    "At {speed} speed, {act} {side}. {Effect}. Behind it you see {wall}.",
    "By {wall}, {act} {side} and {effect}. The speed is {speed}.",
    "Behind, {ambient}. At {speed} speed, {act} {side}. {Effect}.",
)
_STILL_CAPTIONS = (
    "Nothing moves. You see {things}. The wall shows {wall}.",
    "It is frozen: nothing moves. You see {things}.",
    "The video is frozen with {things} by a wall with {wall}. Nothing moves.",
    "You see {things}. Nothing moves. The speed is frozen.",
    "By a wall with {wall} you see {things}. Nothing moves.",
    "Nothing moves here. The video shows {things}. Behind it you see {wall}.",
)


def a_thing(colour: str, shape: str) -> str:
    return f"{'an' if colour == 'orange' else 'a'} {colour} {shape}"


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def tasks(scene: Scene) -> tuple[str, ...]:
    """What may be asked about this scene: of a frozen one its speed and what a still can show."""
    plain = ["background"]
    if scene.speed != "frozen":
        plain += ["colour", "side", "ambient"] + (["shape"] if scene.actor_shape != "lid" else [])
        if scene.target_shape is not None:
            plain += ["other_colour", "other_shape"]
    scenes = ("speed",) if scene.speed == "frozen" else SCENE_TASKS
    return scenes + tuple(task for task in PLAIN_TASKS if task in plain)


def caption(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Draws (question, answer) that describes the whole scene in at most 26 words."""
    actor = a_thing(scene.actor_colour, scene.actor_shape)
    target = a_thing(scene.target_colour, scene.target_shape) if scene.target_shape else ""
    question = pick(rng, _ASK_CAPTION)
    if scene.speed == "frozen":
        template = pick(rng, _STILL_CAPTIONS)
        things = f"{actor} and {target}" if target else actor
        return question, capitalised(template.format(things=things, wall=WALL[scene.background]))
    act = f"{actor} {_DOES[scene.action]}"
    if scene.action not in ("drop", "turn"):
        act += f" {target}"
    subject = scene.actor_shape if scene.subject == "actor" else scene.target_shape
    effect = f"the {subject} {_EFFECT[scene.effect]}"
    if scene.effect == "trail":
        effect = f"the {subject} leaves {a_thing(scene.paint_colour, 'trail')}"
    elif scene.effect == "paints":
        effect += f" to {scene.paint_colour}"
    elif scene.effect == "nothing":
        effect = "nothing else happens to it"
    template = pick(rng, _CAPTIONS)
    return question, template.format(
        act=act, Act=capitalised(act), side=_SIDE[scene.direction], effect=effect,
        Effect=capitalised(effect), speed=scene.speed, wall=WALL[scene.background],
        ambient=_AMBIENT[scene.ambient],
    )  # fmt: skip


def scene_wordings() -> tuple[str, ...]:
    """Every wording of the scene questions, as `TEXT|OPTION|OPTION...`; the tasks take turns."""
    wordings = zip(*(_QUESTIONS[task] for task in SCENE_TASKS), strict=True)
    return tuple(
        "|".join((text, *_VALUES[task]))
        for texts in wordings
        for text, task in zip(texts, SCENE_TASKS, strict=True)
    )


def scene_question(
    scene: Scene, task: str, rng: np.random.Generator
) -> tuple[str, tuple[str, ...], int]:
    """Draws (question, four distinct option texts, index of the right one, uniform over 0-3).

    `task` is one of SCENE_TASKS or PLAIN_TASKS. Raises ValueError when the scene cannot be asked
    it (`tasks(scene)` lists what can).
    """
    if task not in tasks(scene):
        raise ValueError(f"{scene.video_id}: cannot ask {task!r}; "
                         f"this scene allows {', '.join(tasks(scene))}")  # fmt: skip
    answer = {
        "action": _DOES[scene.action], "effect": _EFFECT[scene.effect], "speed": scene.speed,
        "colour": scene.actor_colour, "shape": scene.actor_shape,
        "other_colour": scene.target_colour, "other_shape": scene.target_shape,
        "side": _SIDE[scene.direction], "background": WALL[scene.background],
        "ambient": _AMBIENT[scene.ambient],
    }[task]  # fmt: skip
    template = pick(rng, _QUESTIONS[task])
    question = template.format(
        does=_DOES[scene.action], done=_DONE[scene.action], shape=scene.actor_shape
    )
    wrong = [value for value in _VALUES[task] if value != answer]
    options = [wrong[i] for i in rng.permutation(len(wrong))[:3]]
    index = int(rng.integers(4))
    options.insert(index, answer)
    return question, tuple(options), index
