"""Texts: what a line may hold, and that splits cannot share one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from slim.synth.texts import ASCII, MAX_CHARACTERS, WORDS, Split, draw_text, split_of

EVERYTHING = frozenset(ASCII)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_drawn_texts_belong_to_their_split(split: Split) -> None:
    rng = np.random.default_rng(1)
    texts = [draw_text(rng, split, EVERYTHING) for _ in range(3000)]
    assert all(split_of(text) == split for text in texts)
    assert all(1 <= len(text) <= MAX_CHARACTERS for text in texts)
    assert all(text == " ".join(text.split()) for text in texts)
    lengths = Counter(len(text) for text in texts)
    assert set(range(1, MAX_CHARACTERS + 1)) <= set(lengths)
    assert set("".join(texts)) == EVERYTHING | {" "}  # every class of the dictionary is shown


def test_only_characters_of_the_font() -> None:
    rng = np.random.default_rng(2)
    allowed = frozenset("abcdefghijklmnopqrstuvwxyz0123")
    for _ in range(500):
        assert set(draw_text(rng, "train", allowed)) <= allowed | {" "}


def test_both_splits_hold_a_good_share_of_words_and_single_characters() -> None:
    for pool in (WORDS, tuple(ASCII)):
        share = sum(split_of(text) == "eval" for text in pool) / len(pool)
        assert 0.25 < share < 0.5  # 96 of 256 buckets are 0.375
