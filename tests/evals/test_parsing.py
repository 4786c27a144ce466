import pytest

from vjax.evals.parsing import normalise, strict

pytestmark = pytest.mark.smoke

LETTERS = ("A", "B", "C", "D")
TEXTS = ("red", "a cat", "2,3,1", "4")


@pytest.mark.parametrize(
    ("generated", "want"),
    [
        # the whole answer is a letter
        ("B", "B"),
        ("b", "B"),
        (" B\n", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("B.", "B"),
        ("B:", "B"),
        ("B. a cat", "B"),
        ("(C) it is the order", "C"),
        ("D) 4", "D"),
        ("A: because\nof the colour", "A"),
        ("A. The answer is B", "A"),  # the first rule that applies
        # in its own case, unless it is all there is
        ("(b)", None),
        ("b.", None),
        ("b) a cat", None),
        ("the answer is b", None),
        # not a letter of this item
        ("E", None),
        ("(E)", None),
        ("The answer is E", None),
        # a letter that is a word
        ("A man is D", None),
        ("A cat", "B"),
        ("B cats", None),
        ("As I see it", None),
        # cues
        ("The answer is B", "B"),
        ("the answer is B.", "B"),
        ("Based on the video, the answer is C", "C"),
        ("The answer is: (D)", "D"),
        ("Answer: D", "D"),
        ("Best option: C", "C"),
        ("The best choice is option B, I think", "B"),
        ("The correct option is A", "A"),
        ("THE ANSWER IS B", "B"),
        ("The answer is A. No, the answer is C.", "C"),
        ("The answer is not B", None),
        ("The answer is Blue", None),
        ("The answer is\nB", "B"),
        ("(A) is wrong, so the answer is B", "A"),  # stands first: rule 1
        ("Not (A): the answer is B, not (C)", "B"),
        ("Options A and B", None),
        # parentheses, the last one
        ("It is (B)", "B"),
        ("Either (A) or (C)", "C"),
        ("I see (E) and (B) and (F)", "B"),
        ("I think it is c", None),
        # texts
        ("red", "A"),
        ("Red.", "A"),
        ("A  Cat", "B"),
        ('"a cat"', "B"),
        ("2, 3, 1", "C"),
        ("2 ,3 , 1.", "C"),
        ("4", "D"),
        ("it is red", None),
        ("red or a cat", None),
        ("cat", None),
        # thoughts
        ("<think>The answer is A</think>B", "B"),
        ("<think>A?</think> <think>(C)</think>\nThe answer is (D).", "D"),
        ("<THINK>A</THINK> b", "B"),
        ("so it is A</think>B", "B"),
        ("<think>The answer is A", None),
        # nothing
        ("", None),
        ("   ", None),
        (".", None),
        ("()", None),
        ("AB", None),
        ("A or B", None),
    ],
)
def test_multiple_choice(generated, want):
    assert strict(generated, LETTERS, TEXTS) == want


@pytest.mark.parametrize(
    ("generated", "want"),
    [
        ("3", "3"),
        (" 3.\n", "3"),
        ("The answer is 4", "4"),
        ("answer is 3. No, the answer is 5!", "5"),
        ("Answer: 4 frames", "4"),
        ("33", None),
        ("3.5", None),
        ("The answer is 3.5", None),
        ("The answer is 35", None),
        ("The answer is 3,4", None),
        ("3 frames", None),
        ("three", None),
        ("3 or 4", None),
        ("6", None),
        ("<think>3</think>4", "4"),
        ("", None),
    ],
)
def test_numerals(generated, want):
    assert strict(generated, ("3", "4", "5")) == want


@pytest.mark.parametrize(
    ("generated", "want"),
    [
        ("Yes", "Yes"),
        ("yes", "Yes"),
        ("NO.", "No"),
        ("'No'", "No"),
        ("The answer is yes", "Yes"),
        ("The answer is 'No'.", "No"),
        ("The answer is nothing", None),
        ("Yes and no", None),
        ("Y", None),
        ("not", None),
    ],
)
def test_yes_and_no(generated, want):
    assert strict(generated, ("Yes", "No")) == want


@pytest.mark.parametrize(
    ("generated", "want"),
    [
        ("2,3,1", "2,3,1"),
        ("2, 3, 1", "2,3,1"),
        ("2 ,3,\n1.", "2,3,1"),
        ("The answer is 3, 1, 2, I think", "3,1,2"),
        ("The answer is 3, 1, 2, 4", None),
        ("1,2,3", None),  # no candidate
        ("2,3", None),
        ("2,3,1,4", None),
        ("2 3 1", None),
        ("231", None),
    ],
)
def test_orders(generated, want):
    assert strict(generated, ("1,3,2", "2,1,3", "2,3,1", "3,1,2", "3,2,1")) == want


def test_letters_are_taken_literally():
    assert strict("The answer is .", (".", "A"), ("x", "y")) == "."
    assert strict("The answer is z", (".", "A"), ("x", "y")) is None


def test_equal_option_texts_give_the_first_letter():
    assert strict("a dog", ("A", "B", "C"), ("cat", "Dog", "a dog")) == "C"
    assert strict("dog", ("A", "B", "C"), ("cat", "Dog", "dog")) == "B"


def test_a_one_character_option_text_is_no_letter():
    assert strict("3", ("A", "B"), ("4", "3")) == "B"
    assert strict("b", ("A", "B"), ("b", "a")) == "B"  # a letter counts before a text


def test_no_candidates_parse_nothing():
    assert strict("3", ()) is None


def test_options_must_match_letters():
    with pytest.raises(ValueError, match="2 letters .* for 1 options"):
        strict("A", ("A", "B"), ("red",))


def test_normalise():
    assert normalise("  A  Cat\n, 2 ,3. ") == "a cat,2,3"
