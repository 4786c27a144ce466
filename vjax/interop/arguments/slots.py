"""Which vision tokens stand where."""

import numpy as np


def slots(ids: np.ndarray, tokens: dict[int, int]) -> np.ndarray:
    """vision_index of a batch: each kind of token counts on through its own vision tokens."""
    index, first = np.full(ids.shape, -1, np.int32), 0
    for token, count in tokens.items():
        at = ids == token
        if at.sum() != count:
            raise ValueError(f"{at.sum()} tokens of id {token} for {count} vision tokens")
        index[at] = first + np.arange(count)
        first += count
    return index
