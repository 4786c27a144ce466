"""Images sorted into classes by their names alone, by CLIP, SigLIP or SigLIP 2."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vjax.config import Config, cache_root
from vjax.console import UserError, progress, say, table
from vjax.data import pictures
from vjax.evals.statistics import wilson
from vjax.families import read_spec
from vjax.families.dual import DualSpec
from vjax.interop import load_weights
from vjax.models.dual import DualEncoder
from vjax.prompts.dual import DualPixels, Texts
from vjax.video.files import written_whole

FILE, RESULTS = "zeroshot.jsonl", "zeroshot.json"


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Writes workdir/zeroshot.jsonl, a line an image, and zeroshot.json, and prints shares right.

    Raises:
      UserError: no checkpoint of two towers, no images, or, unless data.on_bad_clip is `skip`,
        one that cannot be read.
    """
    options, folder = config.zeroshot, Path(config.model.path)
    model, pixels, texts = _open(folder, config)
    if options.images == pictures.CIFAR10:
        found = pictures.cifar10(cache_root())
        say(f"images: {pictures.LICENCE}")
    else:
        found = pictures.folder(options.images, options.classes)
    classes = options.classes or found.classes
    if len(classes) < found.labels.max() + 1:
        raise UserError(
            f"zeroshot.classes: {len(classes)} names for {found.labels.max() + 1} classes"
        )
    if len(classes) < 2:
        raise UserError(
            f"zeroshot.classes: {list(classes)} is one class; write them as "
            "--config.zeroshot.classes=\"('cat','dog')\""
        )
    if bad := [text for text in options.templates if "{}" not in text]:
        raise UserError(f"zeroshot.templates: {bad[0]!r} has no {{}} for the class")
    dtype = jnp.dtype(config.model.dtype)
    vectors = class_vectors(model, texts, classes, options.templates, dtype)
    count = min(options.most, len(found.names)) or len(found.names)
    # as many from everywhere: images of a folder lie class by class
    chosen = np.linspace(0, len(found.names), count, endpoint=False).astype(int)
    logits: list[np.ndarray] = []
    lost: dict[int, str] = {}

    def read(n: int) -> np.ndarray | None:
        try:
            return found.read(n)
        except UserError as error:
            if config.data.on_bad_clip != "skip":
                skip = "--config.data.on_bad_clip=skip leaves such images out"
                raise UserError(f"{error}\n{skip}") from error
            lost[n] = str(error)
            return None

    with progress(total=count, desc="zero-shot", unit="image") as bar:
        for first in range(0, count, options.batch_size):
            part = chosen[first : first + options.batch_size]
            images = [image for n in part if (image := read(int(n))) is not None]
            if images:
                filled = images + images[-1:] * (options.batch_size - len(images))
                logits.append(np.asarray(fit(model, pixels(filled), vectors, dtype))[: len(images)])
            bar.update(len(part))
    for why in lost.values():
        say(f"left out: {why}")
    if not logits:
        raise UserError(f"zeroshot.images: none of {count} images can be read")
    chosen = chosen[[int(n) not in lost for n in chosen]]
    _tell(config, workdir, found, classes, chosen, np.concatenate(logits))


def _open(folder: Path, config: Config) -> tuple[DualEncoder, DualPixels, Texts]:
    if not folder.is_dir():
        hub = config.model.hub or "google/siglip2-base-patch16-224"
        raise UserError(
            f"model.path: there is no folder {folder}. A checkpoint is a folder with config.json, "
            "preprocessor_config.json, tokenizer.json and model.safetensors of CLIP, SigLIP or "
            f"SigLIP 2. Fetch one with\n  pip install huggingface_hub\n  hf download {hub} "
            f"--local-dir {folder}\nor name the folder that you have: --config.model.path=FOLDER"
        )
    try:
        spec = read_spec(folder)
        if not isinstance(spec, DualSpec):
            raise ValueError(f"{spec.family} has no text tower; clip, siglip and siglip2 have")
        pixels, texts = DualPixels.from_folder(folder, spec), Texts.from_folder(folder, spec)
    except (ValueError, OSError) as error:
        raise UserError(f"model.path {str(folder)!r}: {error}") from error
    return load_weights(folder, spec), pixels, texts


def class_vectors(model, texts: Texts, classes, templates, dtype) -> jax.Array:
    """float32 [classes, E]: each the mean of its templates', of length 1 again."""
    rows = [
        model.read(jnp.asarray(texts([text.format(name) for text in templates])), dtype=dtype)
        for name in classes
    ]
    means = jnp.stack([row.astype(jnp.float32).mean(0) for row in rows])
    return means / jnp.linalg.norm(means, axis=-1, keepdims=True)


def fit(model: DualEncoder, given: dict[str, np.ndarray], vectors: jax.Array, dtype) -> jax.Array:
    """Logits, float32 [images, classes], of what `DualPixels` gives."""
    return _fit(*nnx.split(model), given, vectors, dtype)


def _jit(graphdef, state, given, vectors, dtype):
    model = nnx.merge(graphdef, state)
    see = model.see if "images" in given else model.see_patches
    return model.logits(see(**given, dtype=dtype).astype(jnp.float32), vectors)


_fit = jax.jit(_jit, static_argnums=(0, 4))


def _tell(config, workdir, found, classes, chosen, logits):
    said, truth = logits.argmax(1), found.labels[chosen]
    lines = [
        {
            "image": found.names[n],
            "class": classes[top],
            "truth": classes[label] if label >= 0 else None,
            "logits": [round(float(x), 4) for x in row],
        }
        for n, top, label, row in zip(chosen, said, truth, logits, strict=True)
    ]
    with written_whole(workdir / FILE) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
    known = truth >= 0
    results = {"images": len(chosen), "classes": list(classes), "labelled": int(known.sum())}
    rows = []
    for n, name in enumerate(classes):
        of = truth == n
        right = f"{(said[of] == n).mean():.3f}" if of.any() else "-"
        rows.append((name, int(of.sum()), int((said == n).sum()), right))
    say(table(("class", "images", "sorted into it", "right"), rows))
    if known.any():
        right = int((said[known] == truth[known]).sum())
        low, high = wilson(right, int(known.sum()))
        results |= {"right": right / int(known.sum()), "interval": [low, high]}
        say(
            f"{right} of {known.sum()} right: {results['right']:.3f} ({low:.3f} to {high:.3f}, 95 "
            f"%); chance is {1 / len(classes):.3f}"
        )
    (workdir / RESULTS).write_text(json.dumps(results, indent=2) + "\n")
    say(f"{workdir / FILE}")
