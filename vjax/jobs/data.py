"""Shows one batch of a run as the training step gets it, and checks what must hold for it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vjax.config import Config
from vjax.console import UserError, say, table
from vjax.data import checks
from vjax.data.batches import WORK, PackedBatches
from vjax.data.samples import BadRow
from vjax.evals import batch_page
from vjax.jobs import _corpus, _model, _rehearsal, _rows, train
from vjax.video.errors import VideoError

PLANNED = "rows are those of the plan"


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Writes WORKDIR/batch.html about batch config.data.show_batch, and prints what is in it.

    Weights are read only for rehearsal, which asks the base model.

    Raises:
      UserError: the batch cannot be made, or violates a check: then the page is there all the same.
    """
    i = config.data.show_batch
    model = _model.load(config) if _rehearsal.count(config) else _model.interface(config)
    made, batch = _batch(config, workdir, model, i)
    work, _ = batch.pop("work", None), batch.pop("plan", None)
    several = batch["tokens"].ndim == 3
    micro = [{k: v[m] for k, v in batch.items()} for m in range(len(batch["tokens"]))]
    parts = micro if several else [batch]
    packed = isinstance(made, PackedBatches)
    patches = model.chat.patches
    found: dict[str, list[str]] = {}
    for m, part in enumerate(parts):
        broken = checks.violations(
            part,
            patches=patches,
            placeholders=model.chat.placeholders,
            newline=model.chat.media.newline,
            row_images=len(part["images"]) // len(part["tokens"]) if packed else 0,
            whole=not model.spec.video_frames,
        )
        for name, lines in broken.items():
            where = f"micro-batch {m}: " if several else ""
            found.setdefault(name, []).extend(where + line for line in lines)
    counts = [batch_page.count(part, patches) for part in parts]
    facts, sources = _facts(parts, counts), {}
    if packed:
        planned, buckets = made.plan.batch(i), len(made.plan.buckets)
        facts["bucket"] = f"{planned.bucket + 1} of {buckets}, epoch {planned.epoch}"
        facts["holes"] = f"{work[WORK.index('holes')]:.0f} samples whose clips could not be read"
        sources, found[PLANNED] = _sources(made, planned.rows, parts, counts)
    page = workdir / "batch.html"
    shown = batch_page.write_page(
        page,
        parts,
        title=f"{config.name}-{config.preset}, batch {i}",
        facts=facts,
        checks=found,
        decode=lambda ids: model.chat.tokenizer.decode(ids, skip_special_tokens=False),
        patches=patches,
        sources=sources,
    )
    _tell(i, parts, counts, facts, found)
    say(f"{page}: {shown} of {sum(map(len, counts))} rows")
    if broken := [name for name, lines in found.items() if lines]:
        raise UserError(f"batch {i}: {len(broken)} of {len(found)} checks failed; {page} shows it")


def _batch(
    config: Config, workdir: Path, model: _model.Interface, i: int
) -> tuple[Callable[[int], dict], dict[str, np.ndarray]]:
    """What makes the batches of a run, and batch i."""
    if config.train.questions != "rows":
        made, _ = train.make_batches(config, _corpus.prepare(config), model)
        return made, made(i)
    made = _rows.make(config, workdir, model)
    try:
        return made, made(i)
    except (BadRow, VideoError) as error:
        raise UserError(f"data.mixture: {error}") from error
    finally:
        made.examples.footage.close()


def _facts(
    parts: Sequence[Mapping[str, np.ndarray]], counts: Sequence[Sequence[batch_page.Row]]
) -> dict[str, str]:
    B, T = parts[0]["tokens"].shape
    slots = sum(len(part["images"]) for part in parts)
    rows = [row for some in counts for row in some]
    segments, tokens, pictures, learnt = np.sum(rows, axis=0).tolist()
    micro = f"{len(parts)} micro-batches of " if len(parts) > 1 else ""
    return {
        "shape": f"{micro}{B} rows of {T} tokens, {sum(not row.tokens for row in rows)} empty",
        "fill": f"{tokens:,} of {len(rows) * T:,} tokens ({tokens / (len(rows) * T):.1%})",
        "with loss": f"{learnt:,} tokens ({learnt / max(1, tokens):.1%} of those)",
        "segments": f"{segments:,}",
        "pictures": f"{pictures:,} of {slots:,} slots ({pictures / max(1, slots):.1%})",
    }


def _sources(
    made: PackedBatches,
    planned: Sequence[Sequence[int]],
    parts: Sequence[Mapping[str, np.ndarray]],
    counts: Sequence[Sequence[batch_page.Row]],
) -> tuple[dict[tuple[int, int, int], str], list[str]]:
    """Where each segment is from, by the plan, and rows that are not what was planned."""
    sources, wrong = {}, []
    for n, item in enumerate(np.concatenate([part["item"] for part in parts]).tolist()):
        m, b = divmod(n, len(counts[0]))
        numbers = planned[n] if n < len(planned) else ()
        there = counts[m][b].segments
        if there > len(numbers) or item != (numbers[0] if there else -1):
            wrong.append(f"row {n}: item {item} and {there} segments, planned are {numbers}")
            continue
        names = [_name(made, number) for number in numbers]
        for k in range(there):
            sources[m, b, k + 1] = names[k]
            if there < len(numbers):
                sources[m, b, k + 1] = f"one of {', '.join(names)}: some could not be read"
    return sources, checks.brief(wrong)


def _name(made: PackedBatches, number: int) -> str:
    """File and row of a sample, and its id where it has one."""
    name, own = made.examples.name(number), made.examples.sample(number).id
    return name if own == name else f"{name} ({own})"


def _tell(i: int, parts: Sequence, counts: Sequence, facts: Mapping, found: Mapping):
    fields = [(name, " x ".join(map(str, x.shape)), str(x.dtype)) for name, x in parts[0].items()]
    say(table(("field", "shape", "dtype"), fields))
    rows = [
        (m, b, *row, int(part["item"][b]))
        for m, part in enumerate(parts)
        for b, row in enumerate(counts[m])
    ]
    say(table(("micro-batch", "row", *batch_page.Row._fields, "item"), rows))
    say(table((f"batch {i}", ""), facts.items()))
    for name, lines in found.items():
        say(f"{'FAILED' if lines else 'ok'}: {name}")
        for line in lines:
            say(f"  {line}")
