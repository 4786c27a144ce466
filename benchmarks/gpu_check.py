"""Attention, train steps and a ring's hop on one accelerator: checked, timed, written as JSON.

    launch/gpu_check [--out=gpu_check.json] [--minutes=8] [--only=PATTERN] [--miniature]
    ./launch/local launch/gpu_check --wheels

Needs JAX's build for the machine and the packages that --wheels lists; no weights, no network. On
a CPU everything is miniature: it shows that the script runs. Each section is a process of its own
with a time limit, so that one that hangs costs no other; what there was no time for is named.
"""

import argparse
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import platform as host
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from benchmarks.released import RELEASED
    from tests.attention import dense
    from vjax.attention import api, attend, chunked
    from vjax.console import table
    from vjax.families import spec_of
    from vjax.models import lora
    from vjax.models.video_llm import VideoLLM
    from vjax.plan import flops
    from vjax.plan.machines import CHIPS, chip_of
    from vjax.train import optimizer
    from vjax.train.step import TrainState, make_step
except ModuleNotFoundError as error:
    sys.exit(
        f"launch/gpu_check: {sys.executable} has no {error.name}: name another Python (PYTHON=...) "
        "or install JAX's build for this machine and what `./launch/local launch/gpu_check "
        "--wheels` lists where vjax is installed"
    )

ROOT = Path(__file__).resolve().parents[1]
LIMIT = {"attention": 100, "step": 150, "ring": 80}  # seconds of a section
LEAST = 20  # one that has less left is not begun
BACKENDS = ("xla", "cudnn", "tokamax", "chunked", "splash")
MODELS = {"2B": "Qwen2-VL-2B", "7B": "Qwen2-VL-7B"}
SECTIONS = (  # what there may be no time for comes last
    "attention xla", "attention cudnn", "attention tokamax", "attention splash", "step 7B 64",
    "step 2B 64", "ring", "attention chunked", "step 2B 16", "step 7B 16",
)  # fmt: skip
# of the largest wanted number, how far any may be off
LIMITS = {"bfloat16": 0.02, "float32": 0.01, "float32 highest": 2e-5}
# bytes a second from one device to the next; what one hop of a ring takes
LINKS = {
    "NVLink 4 (H100, H200 data sheets: 900 GB/s both ways)": 450e9,
    "NVLink 3 (A100 data sheet: 600 GB/s both ways)": 300e9,
    "400 Gb/s InfiniBand, a port a GPU": 50e9,
}


def run(name: str, small: bool):
    """The rows of a section, one after another."""
    kind, *args = name.split()
    return {"attention": attention, "step": step, "ring": ring}[kind](*args, small=small)


# ---- attention -----------------------------------------------------------------------------------


def cases(small: bool):
    """(name, (B, T, S, N, K, H), fields of a mask)."""
    t, odd = (32, 37) if small else (512, 601)
    even = 44 if small else 700  # no multiple of a block
    heads = (4, 2, 16) if small else (6, 2, 128)

    def ids(T):
        cuts = np.array([0.3, 0.62, 0.9]) * T
        one = np.searchsorted(cuts, np.arange(T), side="right") + 1
        return np.stack([np.where(one == 4, 0, one), np.ones(T)])

    packed = {"q_segments": ids(even), "kv_segments": ids(even)}
    late = np.tile(np.arange(even - 16, even), (2, 1))
    cache = {"q_positions": late, "kv_positions": np.tile(np.arange(even), (2, 1))}
    return [
        ("full", (2, t, t, 4, 4, 16 if small else 64), {}),
        ("full, 80 a head", (2, even, even, 4, 4, 80), packed),
        ("causal, odd length", (2, odd, odd, *heads), {"causal": True}),
        ("window", (2, even, even, *heads), {"causal": True, "window": 9 if small else 96}),
        ("packed", (2, even, even, *heads), {"causal": True, **packed}),
        ("after a cache", (2, 16, even, *heads), {"causal": True, **cache}),
    ]


def see(B, T, S, *, causal=False, window=0, **ids) -> np.ndarray:
    """[B, T, S]: what `dense.see` says, all pairs at once."""
    q_at = ids.get("q_positions", np.tile(np.arange(T), (B, 1)))[:, :, None]
    k_at = ids.get("kv_positions", np.tile(np.arange(S), (B, 1)))[:, None]
    q_of = ids.get("q_segments", np.ones((B, T)))[:, :, None]
    k_of = ids.get("kv_segments", np.ones((B, S)))[:, None]
    seen = (q_of == k_of) & (q_of > 0)
    if causal:
        seen = seen & (q_at >= k_at)
        if window:
            seen = seen & (q_at - k_at < window)
    return seen


def attention(backend: str, *, small: bool):
    """A backend against float64, there and back; then its time on a long row."""
    for name, (B, T, S, N, K, H), fields in cases(small):
        arrays = dense.arrays(B, T, N, K, H, S=S)
        seen = see(B, T, S, **fields)
        wanted = functools.cache(functools.partial(_exact, arrays, seen))
        for digits in LIMITS:
            dtype = digits.partition(" ")[0]
            given = [jnp.asarray(x, dtype) for x in arrays]
            row = {"kind": "attention", "backend": backend, "case": name, "digits": digits}
            mask = dense.as_mask(fields)
            if lacks := api.BACKENDS[backend].lacks(given[0], given[1], mask):
                yield row | {"verdict": "not taken", "why": lacks}
                continue
            want = wanted(dtype)
            precision = "highest" if "highest" in digits else None
            try:
                with jax.default_matmul_precision(precision):
                    got = both(backend, mask)(*given)
                yield row | compared(got, want, LIMITS[digits])
            except Exception as error:  # noqa: BLE001 - whatever a kernel says, the others go on
                yield row | {"verdict": "failed", "why": said(error)}
    yield from speed(backend, small=small)


def _exact(arrays, seen, dtype: str):
    """float64, of what is left of the numbers in this dtype."""
    q, k, v, dout = (np.asarray(jnp.asarray(x, dtype).astype("float32")) for x in arrays)
    return dense.attention(q, k, v, seen, dout=dout)


def both(backend: str, mask):
    """Output and gradients, jitted."""

    def call(q, k, v, dout):
        out, back = jax.vjp(lambda *a: attend(*a, mask, backend=backend), q, k, v)
        return out, *back(dout)

    return jax.jit(call)


def compared(got, want, limit: float) -> dict:
    errors = {}
    for name, g, w in zip(("out", "dq", "dk", "dv"), got, want, strict=True):
        off = np.asarray(g.astype("float32"), np.float64) - w
        errors[name] = float(np.abs(off).max() / np.abs(w).max())
    equal = all(error <= limit for error in errors.values())  # nan is not
    return {"verdict": "equal" if equal else "differs", "errors": errors, "limit": limit}


def speed(backend: str, *, small: bool):
    T, N, K, H = (64, 4, 2, 16) if small else (4096, 28, 4, 128)
    ids = np.minimum(np.arange(T) // (T // 3) + 1, 3)[None]
    for name, fields in {
        "causal": {"causal": True},
        "packed": {"causal": True, "q_segments": ids, "kv_segments": ids},
    }.items():
        q, k, v, dout = (jnp.asarray(x, "bfloat16") for x in dense.arrays(1, T, N, K, H))
        mask = dense.as_mask(fields)
        row = {"kind": "speed", "backend": backend, "case": name, "tokens": T, "heads": [N, K, H]}
        if lacks := api.BACKENDS[backend].lacks(q, k, mask):
            yield row | {"verdict": "not taken", "why": lacks}
            continue
        try:
            seconds = median_time(both(backend, mask), (q, k, v, dout), most=3.0)
        except Exception as error:  # noqa: BLE001
            yield row | {"verdict": "failed", "why": said(error)}
            continue
        # two products there, five back, of causal scores; more where packed ones are skipped
        work = 7 * 2 * T * T * N * H / 2
        yield row | {"verdict": "ran", "seconds": seconds, "flops_per_second": work / seconds}


def median_time(call, args, *, most: float, least: int = 5) -> float:
    """Seconds of a call that is compiled already or now; at least so many, for so long at most."""
    jax.block_until_ready(call(*args))
    times, began = [], time.perf_counter()
    while len(times) < least or (len(times) < 50 and time.perf_counter() - began < most):
        start = time.perf_counter()
        jax.block_until_ready(call(*args))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


# ---- train steps ---------------------------------------------------------------------------------


def sizes(model: str, small: bool) -> dict:
    config = RELEASED[MODELS[model]]
    if not small:
        return config
    rope = config["text_config"]["rope_parameters"] | {"mrope_section": [4, 6, 6]}
    few = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
           "num_key_value_heads": 1, "intermediate_size": 96, "vocab_size": 256}  # fmt: skip
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64}
    return config | {
        "text_config": config["text_config"] | few | {"rope_parameters": rope},
        "vision_config": config["vision_config"] | vision,
    }


def parts(spec, backend: str):
    """The model taken apart as SF2T's recipe for released models does, shapes alone."""

    def made():
        model = VideoLLM(spec, rngs=nnx.Rngs(0))
        for part in (model.tower, model.decoder):
            part.attention = backend
        lora.add(model, rank=8, alpha=32.0, dropout=0.0, targets="decoder/.*", rngs=nnx.Rngs(1))
        return model

    graphdef, adapters, frozen = nnx.split(nnx.eval_shape(made), lora.trainable_filter("lora"), ...)
    frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), frozen)
    return graphdef, adapters, frozen


def drawn(tree, seed: int):
    """Arrays of these shapes on the device: norms 1, biases and B of adapters 0, the rest small."""
    flat = list(nnx.to_flat_state(tree))

    def one(path, variable, key):
        shape, dtype = variable.shape, variable.dtype
        last = (variable.get_metadata().get("axes") or ("",))[-1]
        if last == "norm":
            return jnp.ones(shape, dtype)
        if last == "bias" or path[-1] == "lora_b":
            return jnp.zeros(shape, dtype)
        return (0.02 * jax.random.normal(key, shape, jnp.bfloat16)).astype(dtype)

    values = []
    for n, (path, variable) in enumerate(flat):
        key = jax.random.fold_in(jax.random.key(seed), n)
        make = jax.jit(functools.partial(one, path, variable))
        values.append((path, variable.replace(make(key))))
    return nnx.from_flat_state(values)


def batch_of(spec, frames: int, rows: int) -> dict[str, np.ndarray]:
    """Rows of frames and 128 tokens of text, the last 16 of them answers."""
    rng = np.random.default_rng(0)
    side, patches = spec.vision.image_size, spec.frame_tokens
    length = -(-(frames * (patches + 2) + 128) // 64) * 64
    index = np.full((rows, length), -1, np.int32)
    for frame in range(frames):  # a token on either side bounds it
        at = 1 + frame * (patches + 2)
        first = (np.arange(rows) * frames + frame) * patches
        index[:, at : at + patches] = first[:, None] + np.arange(patches)
    weights = np.zeros((rows, length), np.float32)
    weights[:, -17:-1] = 1
    order = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    return {
        "tokens": rng.integers(0, spec.text.vocab, (rows, length)).astype(np.int32),
        "targets": rng.integers(0, spec.text.vocab, (rows, length)).astype(np.int32),
        "loss_weights": weights,
        "positions": order,
        "segment_ids": np.ones_like(order),
        "vision_index": index,
        "rope_positions": np.repeat(order[..., None], 3, axis=2),
        "images": rng.integers(0, 256, (rows * frames, side, side, 3)).astype(np.uint8),
    }


def made_step(model: str, frames: int, small: bool):
    """(step, its arguments as shapes, the FLOPs that it needs): SF2T by LoRA, in bfloat16."""
    spec = spec_of(sizes(model, small))
    side = 56 if small else 224
    spec = dataclasses.replace(spec, vision=dataclasses.replace(spec.vision, image_size=side))
    rows = 2 if small else 8 * 16 // frames
    batch = jax.eval_shape(lambda: batch_of(spec, frames, rows))

    def of(backend: str, remat: bool):
        graphdef, adapters, frozen = parts(spec, backend)
        tx = optimizer.make(
            adapters, lambda n: 1e-4, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.0, clip_norm=1.0
        )
        call = jax.jit(make_step(graphdef, tx, dtype=jnp.bfloat16, remat=remat), donate_argnums=0)
        start = jax.ShapeDtypeStruct((), jnp.int32)
        state = TrainState(adapters, jax.eval_shape(tx.init, adapters), start)
        return call, tx, (state, frozen, batch)

    call, tx, shapes = of("auto", remat=True)
    plainly, _, _ = of("xla", remat=False)
    needed = float(sum(flops.of_step(plainly.trace(*shapes).jaxpr).values()))
    return call, tx, shapes, functools.partial(batch_of, spec, frames, rows), needed


def step(model: str, frames: str, *, small: bool):
    """The LoRA step of a model with random weights: tokens a second, memory, MFU."""
    frames = 3 if small else int(frames)
    row = {"kind": "step", "model": MODELS[model], "frames": frames, "miniature": small}
    call, tx, (state, frozen, _), make_batch, needed = made_step(model, frames, small)
    frozen, adapters = drawn(frozen, 0), drawn(state.trainable, 1)
    state = TrainState(adapters, jax.jit(tx.init)(adapters), jnp.zeros((), jnp.int32))
    batch = jax.device_put(make_batch())
    began = time.perf_counter()
    program = call.lower(state, frozen, batch).compile()
    compiling = time.perf_counter() - began
    losses, times = [], []
    while len(times) < 7 and sum(times) < 30:
        start = time.perf_counter()
        state, metrics = program(state, frozen, batch)
        losses.append(float(metrics["loss"]))  # waits for it
        times.append(time.perf_counter() - start)
    seconds = float(np.median(times[2:] or times))
    stats = jax.devices()[0].memory_stats() or {}
    chip = chip_of(jax.devices()[0].device_kind)
    rows, length = batch["tokens"].shape
    yield row | {
        "rows": rows,
        "tokens": rows * length,
        "compile_seconds": compiling,
        "seconds": seconds,
        "steps": len(times),
        "tokens_per_second": rows * length / seconds,
        "peak_bytes": stats.get("peak_bytes_in_use"),
        "model_flops": needed,
        "mfu": needed / seconds / chip.flops if chip else None,
        "losses": losses,
        "verdict": "ran" if np.all(np.isfinite(losses)) else "failed",
        "why": "" if np.all(np.isfinite(losses)) else "a loss that is not finite",
    }


# ---- a hop of a ring -----------------------------------------------------------------------------


def ring(*, small: bool):
    """What one device computes while its next visitor is on the way, against how long that takes.

    Rows are causal and lie in zigzag order, so of a visitor's pairs half are seen.
    """
    N, K, H = (4, 2, 16) if small else (28, 4, 128)
    for c in (32, 64) if small else (1024, 2048, 4096, 8192, 16384):
        shapes = ((1, c, heads, H) for heads in (N, K, K, N))
        q, k, v, dout = (0.3 * jax.random.normal(jax.random.key(n), shape, jnp.bfloat16)
                         for n, shape in enumerate(shapes))  # fmt: skip
        half, ways = c // 2, 8

        def of(device, half=half, ways=ways):
            first = np.arange(half)
            return np.r_[device * half + first, (2 * ways - 1 - device) * half + first][None]

        fields = {"causal": True, "q_positions": of(3), "kv_positions": of(5)}
        mask = dense.as_mask(fields)

        def there(q, k, v, mask=mask):
            queries, keys = chunked.blocks(q, k, v, mask)
            sums = chunked.accumulate(chunked.empty(queries), queries, keys, mask, H**-0.5)
            return chunked.finish(sums, q)

        def back(q, k, v, out, lse, dout, mask=mask):
            queries, keys = chunked.blocks(q, k, v, mask)
            outer = chunked.outer(q, k, out, lse, dout)
            return chunked.gradients(queries, keys, outer, mask, H**-0.5)

        there, back = jax.jit(there), jax.jit(back)
        forward = median_time(there, (q, k, v), most=2.0, least=3)
        out, lse = there(q, k, v)
        backward = median_time(back, (q, k, v, out, lse, dout), most=2.0, least=3)
        ids = 4 * c
        kv, gifts = 2 * c * K * H * 2, 2 * c * K * H * 4  # bfloat16; dk and dv are float32
        sent = {"forward": kv + ids, "backward": kv + ids + gifts}
        pairs = c * c / 2
        yield {
            "kind": "ring",
            "local": c,
            "heads": [N, K, H],
            "seconds": {"forward": forward, "backward": backward},
            "bytes": sent,
            "flops_per_second": {"forward": 4 * pairs * N * H / forward,
                                 "backward": 10 * pairs * N * H / backward},
            # of the transfer's time, at that rate: 1 or more hides it
            "hides": {link: {"forward": forward / (sent["forward"] / rate),
                             "backward": backward / (sent["backward"] / rate)}
                      for link, rate in LINKS.items()},
            "verdict": "ran",
        }  # fmt: skip


# ---- all of it -----------------------------------------------------------------------------------


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def machine() -> dict:
    """What this ran on, as far as it says."""
    device = jax.devices()[0]
    chip = chip_of(device.device_kind)
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    kept = r"(jax|jaxlib|flax|optax|numpy|tokamax)$|jax-cuda|nvidia-cudnn|nvidia-nccl"
    names = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    versions = {n: importlib.metadata.version(n) for n in sorted(names) if re.match(kept, n)}
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "memory": (device.memory_stats() or {}).get("bytes_limit"),
        "backend": getattr(device.client, "platform_version", ""),
        "driver": _ask(asked),
        "chip": next((name for name, of in CHIPS.items() if of == chip), None),
        "peak_flops": chip and chip.flops,
        "absent": {name: why for name in BACKENDS if (why := api.absent(name))},
        "python": host.python_version(),
        "versions": versions,
    }


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def section(name: str, into: Path, small: bool):
    """A child's work: rows, each written when it is known."""
    if small:  # programs of this size take longer to optimise than to run
        jax.config.update("jax_disable_most_optimizations", True)
    with into.open("a") as file:
        for row in run(name, small):
            file.write(json.dumps(row) + "\n")
            file.flush()


def apart(name: str, limit: float, small: bool) -> tuple[dict, list[dict]]:
    """A section in a process of its own: how it went, and its rows."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "rows.jsonl"
        command = [sys.executable, __file__, f"--section={name}", f"--into={into}"]
        command += ["--miniature"] if small else []
        status, why = "done", ""
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=limit, cwd=ROOT,
                env=os.environ | {"JAX_TRACEBACK_FILTERING": "off"},  # the last line is the error
            )  # fmt: skip
            if done.returncode:
                lines = done.stderr.strip().splitlines()
                status, why = "failed", (lines or [f"ended with {done.returncode}"])[-1][:500]
        except subprocess.TimeoutExpired:
            status, why = "timed out", f"killed after {limit:.0f} s"
        lines = into.read_text().splitlines() if into.exists() else []
    how = {"name": name, "status": status, "why": why, "seconds": time.monotonic() - began}
    return how, [json.loads(line) for line in lines if line.endswith("}")]


def asked(only: str) -> list[str]:
    """The sections that a pattern is found in.

    Raises:
      ValueError: it is no pattern, or is found in none.
    """
    try:
        found = [name for name in SECTIONS if re.search(only, name)]
    except re.error as error:
        raise ValueError(f"--only={only} is no regular expression: {error}") from None
    if not found:
        raise ValueError(f"--only={only} is found in no section: {', '.join(SECTIONS)}")
    return found


def check_writable(out: Path):
    """Makes its folder; leaves the file as it was.

    Raises:
      ValueError: it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        new = not out.exists()
        out.open("a").close()
        if new:
            out.unlink()
    except OSError as error:
        raise ValueError(f"--out={out} cannot be written: {error.strerror}") from None


def everything(args, names: list[str]) -> dict:
    """Runs these sections."""
    began = time.monotonic()
    about = _apart_machine()
    small = args.miniature or about.get("platform", "cpu") == "cpu"
    sections, rows = [], []
    for name in names:
        kind, _, of = name.partition(" ")
        if kind == "attention" and of in about["absent"]:
            why = about["absent"][of]
            sections.append({"name": name, "status": "not here", "why": why, "seconds": 0.0})
            continue
        if small and kind == "step" and of.endswith("16"):
            why = "three frames stand for 64 and for 16"
            sections.append(
                {"name": name, "status": "not in miniature", "why": why, "seconds": 0.0}
            )
            continue
        left = 60 * args.minutes - (time.monotonic() - began) - 5
        limit = min(left, LIMIT[kind])
        if limit < min(LEAST, 60 * args.minutes):
            how = {"name": name, "status": "left out", "why": "no time left", "seconds": 0.0}
            found = []
        else:
            how, found = apart(name, limit, small)
        print(f"{name}: {how['status']} after {how['seconds']:.0f} s {how['why']}", file=sys.stderr)
        sections.append(how)
        rows += found
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _ask(["git", "describe", "--always", "--dirty", "--abbrev=40"]),
        "miniature": small,
        "minutes": args.minutes,
        "seconds": time.monotonic() - began,
        "machine": about,
        "sections": sections,
        **{
            kind: [{k: v for k, v in row.items() if k != "kind"} for row in rows
                   if row["kind"] == kind]
            for kind in ("attention", "speed", "step", "ring")
        },
    }  # fmt: skip


def _apart_machine() -> dict:
    """`machine` in a child: this process takes no memory of the device."""
    done = subprocess.run(
        [sys.executable, __file__, "--machine"], capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        sys.exit(f"launch/gpu_check: JAX does not start here:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def wrong(result: dict) -> list[str]:
    """What failed; what a backend cannot take, or is not here, is no failure."""
    bad = [f"{s['name']}: {s['status']}, {s['why']}" for s in result["sections"]
           if s["status"] in ("failed", "timed out", "left out")]  # fmt: skip
    for kind in ("attention", "speed", "step", "ring"):
        for row in result[kind]:
            if row["verdict"] in ("failed", "differs"):
                bad.append(f"{kind} {json.dumps(row)}")
    return bad


def told(result: dict) -> str:
    """The figures for people."""
    about = result["machine"]
    head = f"{about['device']} ({about['driver'] or about['platform']}), commit {result['commit']}"
    if result["miniature"]:
        head += ", miniature: times mean nothing"
    worst = lambda row: f"{max(row['errors'].values()):.1e}" if "errors" in row else ""  # noqa: E731
    mfu = lambda row: "unknown chip" if row["mfu"] is None else f"{row['mfu']:.1%}"  # noqa: E731
    size = lambda n: "" if n is None else f"{n / 2**30:.1f} GiB"  # noqa: E731
    return "\n\n".join([
        head,
        table(("backend", "case", "digits", "verdict", "largest error", "why"),
              [(r["backend"], r.get("case", ""), r.get("digits", ""), r["verdict"], worst(r),
                r.get("why", "")[:60]) for r in result["attention"]]),
        table(("backend", "case", "tokens", "there and back", "TFLOP/s"),
              [(r["backend"], r["case"], r["tokens"], f"{1e3 * r['seconds']:.2f} ms",
                f"{r['flops_per_second'] / 1e12:.1f}") for r in result["speed"]
               if r["verdict"] == "ran"]),
        table(("step of", "frames", "tokens", "time", "tokens/s", "peak", "MFU"),
              [(r["model"], r["frames"], f"{r['tokens']:,}", f"{1e3 * r['seconds']:.0f} ms",
                f"{r['tokens_per_second']:,.0f}", size(r["peak_bytes"]), mfu(r))
               for r in result["step"]]),
        table(("hop of", "computes, forward", "backward", *LINKS),
              [(r["local"], *(f"{1e3 * s:.2f} ms" for s in r["seconds"].values()),
                *("{forward:.1f}x, {backward:.1f}x".format(**r["hides"][link]) for link in LINKS))
               for r in result["ring"]]),
        "\n".join([f"{s['name']}: not here: {s['why']}" for s in result["sections"]
                   if s["status"] == "not here"] + (wrong(result) or ["nothing failed"])),
    ])  # fmt: skip


def wheels() -> str:
    """The packages that this needs, of the versions here: pure ones as pip takes them."""
    given = {"jax", "jaxlib", "numpy", "scipy", "ml-dtypes", "opt-einsum", "libtpu"}  # JAX's own
    names = importlib.metadata.packages_distributions()
    used = {d for module in list(sys.modules) for d in names.get(module.partition(".")[0], ())}
    pure, built = [], []
    for name in sorted(used, key=str.lower):
        kind = importlib.metadata.distribution(name).read_text("WHEEL") or ""
        if name.lower().replace("_", "-") in given or name.startswith(("nvidia", "jax-cuda")):
            continue
        pinned = f"{name}=={importlib.metadata.version(name)}"
        (pure if "Root-Is-Purelib: true" in kind else built).append(pinned)
    return "\n".join([*pure, *(f"# of the machine's own build: {one}" for one in built)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--only", default="", help="sections that this is found in")
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--wheels", action="store_true")
    for child in ("--section", "--into"):
        parser.add_argument(child, help=argparse.SUPPRESS)
    parser.add_argument("--machine", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.wheels:
        print(wheels())
    elif args.machine:
        print(json.dumps(machine()))
    elif args.section:
        section(args.section, Path(args.into), args.miniature)
    else:
        try:
            names = asked(args.only)
            check_writable(args.out)  # now, not after minutes
        except ValueError as error:
            print(f"launch/gpu_check: {error}", file=sys.stderr)
            return 2
        result = everything(args, names)
        print(told(result))
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        return 1 if wrong(result) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
