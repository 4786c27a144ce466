"""What the tests against transformers' classes share."""

import copy
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from vjax.console import UserError
from vjax.families import family_of, read_spec
from vjax.interop import load_model, reference_logits

torch = pytest.importorskip("torch")


def randomised(model):
    """The model, every parameter random, so that no norm or bias is neutral."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.copy_(centre + 0.1 * torch.randn(p.shape, generator=generator))
    return model.eval()


def logits(model, arrays):
    """Those of transformers' model, as a tensor."""
    return model(**{name: torch.from_numpy(array) for name, array in arrays.items()}).logits


# (family, what) -> largest difference that a test of this session saw; see tests/interop/page.py
SEEN: dict[tuple[str, str], float] = {}


def note(family: str, what: str, off: float):
    """Keeps the largest difference seen."""
    SEEN[family, what] = max(SEEN.get((family, what), 0.0), float(off))


def agree(got, want, atol, *, of, what="logits"):
    """Asserts that all numbers agree within `atol`, and notes by how much they do."""
    got, want = np.asarray(got), np.asarray(want)
    note(of, what, np.abs(got - want).max())
    np.testing.assert_allclose(got, want, atol=atol, rtol=0)


def gradients_agree(got, want, *, of):
    """The same of a weight's gradient, within 1e-4 of its largest number."""
    scale = np.abs(want).max()
    agree(np.asarray(got) / scale, want / scale, 1e-4, of=of, what="gradients")


def bfloat16_agrees(theirs, ours, arrays, *, of):
    """In bfloat16 we are no further from the reference in float32 than it is itself (rms)."""
    real = arrays.get("attention_mask", np.ones_like(arrays["input_ids"])) > 0
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()[real]
        half = copy.deepcopy(theirs).to(torch.bfloat16)
        floats = {k: torch.from_numpy(v) for k, v in arrays.items()}
        floats = {k: v.bfloat16() if v.is_floating_point() else v for k, v in floats.items()}
        own = half(**floats).logits.float().numpy()[real]
    got = np.asarray(reference_logits(ours, dtype=jnp.bfloat16, **arrays))[real]
    off, allowed = (float(np.sqrt(np.mean((x - want) ** 2))) for x in (got, own))
    note(of, "bfloat16", off / allowed)
    assert off <= 1.05 * allowed, f"rms {off:.3g}, the reference's own {allowed:.3g}"


def padded(rows, *, left=False):
    """input_ids and attention_mask of rows of token ids."""
    T = max(map(len, rows))
    ids, mask = np.zeros((2, len(rows), T), np.int64)
    for n, row in enumerate(rows):
        here = slice(T - len(row), T) if left else slice(len(row))
        ids[n, here], mask[n, here] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def loss_gradients(theirs, ours, arrays):
    """Of the next-token loss of the first row: put into `theirs`, and returned for `ours`."""
    ids = arrays["input_ids"][0]
    theirs.zero_grad()
    said = torch.log_softmax(logits(theirs, arrays)[0, :-1], -1)
    (-said[torch.arange(len(ids) - 1), torch.from_numpy(ids[1:])].mean()).backward()
    graphdef, state = nnx.split(ours)

    def loss(state):
        out = reference_logits(nnx.merge(graphdef, state), **arrays)[0, :-1]
        return -jax.nn.log_softmax(out)[jnp.arange(len(ids) - 1), ids[1:]].mean()

    return jax.grad(loss)(state)


def a_broken_folder_is_described(folder, broken):
    """Loads a copy of a folder with each third tensor missing, and one that is not used."""
    tensors, spec = load_file(folder / "model.safetensors"), read_spec(folder)
    family = family_of(spec.family)
    gone = [n for n in sorted(tensors) if not family.is_unused(spec, family.module_name(n))][::3]
    kept = {name: w for name, w in tensors.items() if name not in gone}
    shutil.copy(folder / "config.json", broken)
    save_file(kept | {"model.other.weight": np.zeros(3, np.float32)}, broken / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_model(broken)
    said = str(error.value)
    assert f"{len(gone) + 1} tensor(s) do not fit" in said, said
    assert all(f"missing: {name}\n" in f"{said}\n" for name in gone)
    assert "not used: model.other.weight in model.safetensors" in said
