"""The small tokenizer: any text comes back, digits stay apart, special tokens have fixed ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.made_up import VOCAB, small_tokenizer
from vjax.prompts import tokenizer as tokenizer_lib

pytestmark = pytest.mark.smoke


@given(st.text())
def test_any_text_comes_back(text):
    if any(token in text for token in tokenizer_lib.SPECIAL):
        return
    tokenizer = small_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_come_first_in_their_order():
    tokenizer = small_tokenizer()
    assert [tokenizer.token_to_id(token) for token in tokenizer_lib.SPECIAL] == list(range(6))
    added = tokenizer.get_added_tokens_decoder()
    assert {added[n].content for n in range(6) if added[n].special} == set(tokenizer_lib.SPECIAL)


def test_the_vocabulary_is_no_larger_than_asked():
    assert 300 < small_tokenizer().get_vocab_size() <= VOCAB


@pytest.mark.parametrize("M", [3, 4, 5])
def test_orders_of_the_same_length_have_the_same_number_of_tokens(M):
    """So the length of an item is known from its wording (`vjax.data.fragments.Lengths`)."""
    encode = small_tokenizer().encode
    order = ",".join(map(str, range(1, M + 1)))
    assert len(encode(order).ids) == 2 * M - 1
    assert len(encode(order[::-1]).ids) == 2 * M - 1


def test_training_twice_gives_the_same():
    texts = ["a red square pushes", "a blue circle", "3 frames"] * 5
    one, two = (tokenizer_lib.train(texts, 300) for _ in range(2))
    assert one.to_str() == two.to_str()


def test_a_folder_gives_its_tokenizer_back(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer.json in this checkpoint folder"):
        tokenizer_lib.load(tmp_path)
    small_tokenizer().save(str(tmp_path / "tokenizer.json"))
    text = "Which of the frames has this view?"
    again = tokenizer_lib.load(tmp_path)
    assert again.encode(text).ids == small_tokenizer().encode(text).ids
