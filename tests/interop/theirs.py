"""What the tests against transformers' classes share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vjax.interop import reference_logits

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
