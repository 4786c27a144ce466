"""Position rules of M-RoPE: the numbers that each gives, written down."""

import numpy as np
import pytest

from vjax.prompts.positions import TEXT, VIDEO, mrope_positions

# grid in patches, step of time: time of each temporal patch, and where the text after it stands, by
# both rules. A text token stands before the grid. The third and the fifth row are those by which
# transformers 5.23.0 and Qwen's own code were seen to part: text at 13 against 33 and against 64.
TABLE = [
    ((2, 8, 12), 1, [1, 2], 7, 7),
    ((6, 8, 12), 1, [1, 2, 3, 4, 5, 6], 7, 7),
    ((32, 24, 24), 1, list(range(1, 33)), 33, 13),
    ((9, 4, 4), 1, list(range(1, 10)), 10, 3),
    ((32, 24, 24), 2, list(range(1, 64, 2)), 64, 13),
    ((4, 4, 4), 2, [1, 3, 5, 7], 8, 3),
    ((4, 4, 4), 4.4, [1, 5, 9, 14], 15, 3),  # 2.2 seconds a temporal patch, two numbers a second
    ((4, 8, 8), 0.5, [1, 1, 2, 2], 5, 5),
    ((6, 4, 4), 2 / 3, [1, 1, 2, 3, 3, 4], 5, 3),
    ((1, 4, 6), 2, [1], 4, 4),
]


@pytest.mark.parametrize(("grid", "step", "time", "qwen", "hf5"), TABLE)
def test_where_text_goes_on(grid, step, time, qwen, hf5):
    t, h, w = grid[0], grid[1] // 2, grid[2] // 2
    types = [TEXT, *[VIDEO] * (t * h * w), TEXT, TEXT]
    for rule, after in (("qwen", qwen), ("hf5", hf5)):
        got = mrope_positions(types, [grid], merge=2, rule=rule, steps=[step])
        assert got[0].tolist() == [0, 0, 0]
        shown = got[1:-2].reshape(t, h, w, 3)
        assert shown[:, 0, 0, 0].tolist() == time
        assert (shown[..., 0] == np.array(time)[:, None, None]).all()
        assert shown[0, :, 0, 1].tolist() == list(range(1, 1 + h))
        assert shown[0, 0, :, 2].tolist() == list(range(1, 1 + w))
        assert got[-2:].tolist() == [[after] * 3, [after + 1] * 3]


def test_two_videos_each_with_its_own_step():
    """The second starts where the first has left off, by each rule."""
    types = [*[VIDEO] * 3, TEXT, *[VIDEO] * 2, TEXT]
    grids = [(3, 2, 2), (2, 2, 2)]
    time = {
        rule: mrope_positions(types, grids, merge=2, rule=rule, steps=[2, 3])[:, 0].tolist()
        for rule in ("qwen", "hf5")
    }
    assert time == {"qwen": [0, 2, 4, 5, 6, 9, 10], "hf5": [0, 2, 4, 1, 2, 5, 3]}


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="rule 'hf4' is not known; known: qwen, hf5"):
        mrope_positions([TEXT], [], merge=2, rule="hf4")
    with pytest.raises(ValueError, match="tokens 0 to 2: 3 vision tokens for a grid of 2 x 1 x 1"):
        mrope_positions([VIDEO] * 3, [(2, 2, 2)], merge=2, rule="qwen")
    with pytest.raises(ValueError, match="tokens 1 to 1 show something that has no grid"):
        mrope_positions([TEXT, VIDEO], [], merge=2, rule="qwen")
