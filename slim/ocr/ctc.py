"""CTC: text to class numbers for training, probabilities to text after it.

Worked example with labels ("", "a", "b"): the best classes of six time steps 1 1 0 1 2 2 collapse to
1 0 1 2, the blank (0) is dropped, and the text is "aab". "aab" needs four steps at least: three
characters and one blank between the two equal ones (`steps_needed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from slim.errors import InputError
from slim.spec import BLANK

TIME_STRIDE = 4
"""Pixels of input width per time step of the CRNN nets (the stem and the last pool halve it)."""


def class_numbers(labels: Sequence[str]) -> dict[str, int]:
    """Character -> class. Of a character that occurs twice the last class wins, as in PaddleOCR.

    (``en_dict.txt`` ends with a space and ``use_space_char`` appends another one.)

    >>> class_numbers(("", "a", " ", " "))
    {'a': 1, ' ': 3}
    """
    return {label: number for number, label in enumerate(labels) if label != BLANK}


def encode(text: str, classes: Mapping[str, int]) -> tuple[list[int], str]:
    """Classes of the known characters, and the characters that the dictionary lacks, in order.

    >>> encode("ab!", {"a": 1, "b": 2})
    ([1, 2], '!')
    """
    known = [classes[char] for char in text if char in classes]
    unknown = "".join(char for char in text if char not in classes)
    return known, unknown


def steps_needed(numbers: Sequence[int]) -> int:
    """Time steps that CTC needs at least: one per character, one blank between equal neighbours.

    >>> steps_needed([1, 1, 2]), steps_needed([])
    (4, 0)
    """
    repeats = sum(1 for left, right in zip(numbers, numbers[1:], strict=False) if left == right)
    return len(numbers) + repeats


def decode(probs: npt.NDArray[np.float32], labels: Sequence[str]) -> list[tuple[str, float]]:
    """Greedy decoding.

    Args:
        probs: N x T x C probabilities (logits decode to the same text, but not the same confidence).
        labels: C labels, the blank ("") at index 0.

    Returns:
        N pairs of text and confidence; the confidence is the mean of the largest probabilities of
        the kept steps, 0.0 where none was kept.

    Raises:
        InputError: the array's shape does not fit the labels.

    >>> decode(np.eye(3, dtype=np.float32)[[[1, 1, 0, 1, 2, 2]]], ("", "a", "b"))
    [('aab', 1.0)]
    """
    if probs.ndim != 3 or probs.shape[2] != len(labels):
        raise InputError(
            f"output of shape {probs.shape} does not fit {len(labels)} labels",
            remedy="use the dictionary the model was trained with",
        )
    best = probs.argmax(axis=2)
    score = probs.max(axis=2)
    keep = best != 0
    keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    result = []
    for row, kept, value in zip(best, keep, score, strict=True):
        text = "".join(labels[number] for number in row[kept])
        result.append((text, float(value[kept].mean(dtype=np.float64)) if kept.any() else 0.0))
    return result
