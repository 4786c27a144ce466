"""What two moments of a scene show otherwise, in words: nothing about which of them came earlier.

Comparing pictures is what a Video-LLM's base can do; when things happened is what SF2T teaches.
"""

from __future__ import annotations

import numpy as np

from vjax.video.rng import pick
from vjax.video.world import questions
from vjax.video.world.motion import Timeline
from vjax.video.world.scene import Scene

MOVED = 6.0  # pixels of 96
CHANGED = 0.25  # of an effect
AMBIENT = 0.09  # of the background process
TURNED = 0.5  # radians

_EFFECT = {
    "melts": ("flatter", "less flat"), "grows": ("bigger", "smaller"),
    "fades": ("paler", "less pale"), "breaks": ("more broken", "less broken"),
    "paints": ("more {paint}", "less {paint}"),
}  # fmt: skip
_AMBIENT = {
    "candle": ("the candle is shorter", "the candle is taller"),
    "bar": ("the bar is fuller", "the bar is emptier"),
    "sand": ("the sand is higher", "the sand is lower"),
    "plant": ("the plant is taller", "the plant is shorter"),
    "glass": ("the glass is fuller", "the glass is emptier"),
    "drip": ("the paint is longer", "the paint is shorter"),
}
NOTHING = "Nothing is different."
_ASK = (
    "What is different?", "What has changed?", "Which things differ?", "Tell me what differs.",
    "Compare what you see.",
)  # fmt: skip
ANY = (
    "Is anything different?", "Has anything changed?", "Do they differ?", "Is there a difference?",
    "Has something changed here?",
)  # fmt: skip
ANY_SHARE = 0.5
_THINGS = (
    "What is there?", "Which things are there?", "Name the things.", "Say what is there.",
    "What can be seen?",
)  # fmt: skip
VISIBLE = 0.3  # opacity


def _moved(step: np.ndarray) -> list[str]:
    words = []
    if abs(step[0]) > MOVED:
        words.append("further right" if step[0] > 0 else "further left")
    if abs(step[1]) > MOVED:
        words.append("lower" if step[1] > 0 else "higher")
    return words


def differences(scene: Scene, t: Timeline, a: int, b: int) -> list[str]:
    """Facts that hold of frame `b` against frame `a`, in any order of time; none if they agree."""
    facts = []
    bodies = {
        "actor": (t.actor, scene.actor_colour, scene.actor_shape),
        "target": (t.target, scene.target_colour, scene.target_shape),
    }
    for name, (body, colour, shape) in bodies.items():
        if body is None:
            continue
        step = body.centre[b] - body.centre[a]
        if name != "actor" or scene.direction != "down":
            step = step * (1, 0)  # growing lifts the centre: not a move
        said = _moved(step)
        if abs(body.angle[b] - body.angle[a]) > TURNED:
            said.append("turned")
        effect = t.effect[b] - t.effect[a]
        if name == scene.subject and scene.effect in _EFFECT and abs(effect) > CHANGED:
            said.append(_EFFECT[scene.effect][int(effect < 0)].format(paint=scene.paint_colour))
        if said:
            facts.append(f"the {colour} {shape} is {' and '.join(said)}")
    if scene.effect == "trail":
        path = np.abs(np.diff(t.brush, axis=0)).sum(1)
        drawn = path[: max(a, b)].sum() - path[: min(a, b)].sum()
        if drawn > MOVED:
            facts.append(f"the {scene.paint_colour} trail is {'longer' if b > a else 'shorter'}")
    ambient = t.ambient[b] - t.ambient[a]
    if abs(ambient) > AMBIENT:
        facts.append(_AMBIENT[scene.ambient][int(ambient < 0)])
    return facts


def difference_question(
    scene: Scene, t: Timeline, a: int, b: int, rng: np.random.Generator
) -> tuple[str, str]:
    """(question, answer) about frame `b` against frame `a`; facts come in a drawn order."""
    facts = differences(scene, t, a, b)
    said = [questions.capitalised(facts[k]) + "." for k in rng.permutation(len(facts))]
    return pick(rng, _ASK), " ".join(said) or NOTHING


def yes_no_question(
    scene: Scene, t: Timeline, a: int, b: int, rng: np.random.Generator
) -> tuple[str, bool]:
    """(question, whether it is so) about frame `b` against frame `a`.

    Asks whether anything differs, or whether one thing does: a fact, or its opposite.
    """
    facts = differences(scene, t, a, b)
    if not facts or rng.random() < ANY_SHARE:
        return pick(rng, ANY), bool(facts)
    so = bool(rng.random() < 0.5)
    said = facts if so else [f for f in differences(scene, t, b, a) if f not in facts]
    if not said:  # what is turned is turned from either side
        said, so = facts, True
    fact = pick(rng, said)
    subject, _, what = fact.partition(" is ")
    return f"Is {subject} {what}?", so


def things_question(
    scene: Scene, t: Timeline, row: int, rng: np.random.Generator
) -> tuple[str, str]:
    """(question, answer) that names what can be seen in one frame, from left to right."""
    things = [(t.actor, scene.actor_colour, scene.actor_shape)]
    if t.target is not None:
        apart = np.abs(t.actor.centre[row] - t.target.centre[row]).max() > t.target.radius
        if apart or not (t.behind or scene.action == "cover"):
            things.append((t.target, scene.target_colour, scene.target_shape))
    seen = [thing for thing in things if thing[0].alpha[row] > VISIBLE]
    seen.sort(key=lambda thing: thing[0].centre[row, 0])
    named = [questions.a_thing(colour, shape) for _, colour, shape in seen]
    said = " and ".join(named) or "nothing"
    answer = f"{said} by a wall with {questions.WALL[scene.background]}."
    return pick(rng, _THINGS), questions.capitalised(answer)


def vocabulary(scene: Scene) -> list[str]:
    """Words that a comparison about this scene may use."""
    words = [word.format(paint=scene.paint_colour) for pair in _EFFECT.values() for word in pair]
    moves = ["further left", "further right", "lower", "higher", "turned", "shorter", "longer"]
    return [*_ASK, *ANY, *_THINGS, NOTHING, *_AMBIENT[scene.ambient], *words, *moves, "Is"]
