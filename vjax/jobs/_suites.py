"""The suites of a run: fragments on held-out clips, scene questions on procedural ones."""

from collections.abc import Sequence

import jax

from vjax.config import Config
from vjax.console import UserError, progress, say
from vjax.data.items import SceneItem
from vjax.data.plan import eval_records
from vjax.evals.items import ItemResult
from vjax.evals.run import Item, evaluate
from vjax.families.spec import ModelSpec, VideoSpec
from vjax.fragments import TASKS, Drop, FragmentConfig, label_histogram
from vjax.jobs import _features
from vjax.jobs._corpus import Corpus
from vjax.jobs._model import Interface, Loaded, dtype_of, mesh_of
from vjax.video.rng import philox
from vjax.video.world import questions

SCENE_FRAMES = 6


def fragment_config(config: Config, video: VideoSpec, *, judged: bool) -> FragmentConfig:
    """How sets are drawn: for training, or, `judged`, for the suites with a seed of their own."""
    options = config.fragments
    return FragmentConfig(
        seed=config.eval.seed if judged else config.seed,
        sampler=config.eval.sampler if judged else options.sampler,
        power=options.power,
        tau=options.tau,
        model_size=video.image_size,
        mcq_share=config.eval.mcq_share if judged else options.mcq_share,
    )


def tasks(config: Config, spec: ModelSpec) -> list[str]:
    """Those that the model is asked.

    Raises:
      UserError: counting has a weight in training, and the model does not see how many frames.
    """
    if not spec.uncountable:
        return list(TASKS)
    if config.fragments.weights.counting:
        raise UserError(
            f"{spec.family} is not asked to count frames: {spec.uncountable}. "
            "Set --config.fragments.weights.counting=0"
        )
    return [task for task in TASKS if task != "counting"]


def make(
    config: Config, corpus: Corpus, loaded: Interface
) -> tuple[dict[str, Sequence[Item]], list[Drop]]:
    """Items by suite name, and clips that gave none; says how answers are spread.

    Raises as `tasks`.
    """
    video, asked = loaded.video, tasks(config, loaded.spec)
    if loaded.spec.uncountable:
        say(f"counting is left out: {loaded.spec.uncountable}")
    suites: dict[str, Sequence[Item]] = {}
    drops: list[Drop] = []
    cfg = fragment_config(config, video, judged=True)
    wanted = {"real": config.eval.items_real, "procedural": config.eval.items_procedural}
    for source, keys in corpus.heldout.items():
        if not (wanted[source] and keys):
            continue
        order = philox("eval", config.eval.seed, source).permutation(len(keys))
        keys = [keys[n] for n in order]
        items, lost = eval_records(keys, corpus.clip_of, cfg, wanted[source], asked)
        drops += lost
        suites[f"fragments/{source}"] = items
        labels = label_histogram([item.record for item in items])
        for task, found in labels.items():
            spread = ", ".join(f"{label} {n}" for label, n in sorted(found["label"].items())[:6])
            count = sum(found["label"].values())
            say(f"  fragments/{source} {task}: {count} items; answers {spread}")
    scenes = [(key, corpus.scenes[key]) for key in corpus.heldout.get("procedural", ())]
    items = [
        SceneItem(scene, key, task, video.fps, SCENE_FRAMES, config.eval.seed)
        for key, scene in scenes
        for task in questions.SCENE_TASKS
        if task in questions.tasks(scene)
    ]
    if config.eval.items_scene and items:
        suites["scene/procedural"] = items[: config.eval.items_scene]
    return suites, drops


@_features.told()
def run(
    config: Config,
    suites: dict[str, Sequence[Item]],
    loaded: Loaded,
    state,
    corpus: Corpus,
    what: str,
) -> dict[str, list[ItemResult]]:
    """Scores all suites with the trainable variables `state`, under a bar."""
    total = sum(len(items) for items in suites.values())
    mesh = mesh_of(config)
    features = _features.make(config, loaded.parts, mesh)
    with (
        jax.set_mesh(mesh),
        progress(total=total, desc=f"evaluate {what}", unit="item") as bar,
    ):
        found = evaluate(
            suites,
            (loaded.graphdef, state, loaded.frozen),
            loaded.chat,
            corpus.clip_of,
            image_size=loaded.video.image_size,
            pad_token_id=loaded.spec.pad_token_id,
            batch_size=config.eval.batch_size,
            control=config.eval.control,
            dtype=dtype_of(config),
            prefill_chunk=config.eval.prefill_chunk,
            on_batch=bar.update,
            **({"look": features} if features else {}),
        )
    if features:
        features.close(f"evaluate {what}")
    return found
