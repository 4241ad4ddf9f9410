"""Which character stands where on the line: the Unicode bidirectional algorithm, for labels.

A recognizer reads its columns from left to right, so the label of a line that is read from right to left
lists the characters as they stand, from left to right: PaddleOCR's Arabic models answer so, and its decoder
turns the answer round. What is here is UAX #9 for one line without explicit embeddings, overrides and
isolates (control characters are never drawn); the picture itself is laid out by FriBidi.
"""

from __future__ import annotations

import unicodedata

_MIRRORED = str.maketrans("()[]{}<>«»‹›≤≥", ")(][}{><»«›‹≥≤")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_RIGHT = ("R", "AL")
_NEUTRAL = ("B", "S", "WS", "ON")


def visual_order(text: str) -> str:
    """The characters of a line from left to right, mirrored brackets as they are drawn.

    >>> visual_order("abc 12"), visual_order("אבג (12)") == "(12) גבא"
    ('abc 12', True)
    """
    kinds = [unicodedata.bidirectional(char) or "L" for char in text]
    if not {"R", "AL", "AN"} & set(kinds):
        return text
    base = next((int(kind in _RIGHT) for kind in kinds if kind in ("L", *_RIGHT)), 0)
    kinds = _weak(kinds, "R" if base else "L")
    kinds = _brackets(text, kinds, base)
    levels = [_level(kind, base) for kind in _neutral(kinds, base)]
    order = list(range(len(text)))
    for level in range(max(levels), 0, -1):
        order = _reversed_runs(order, [levels[k] >= level for k in order])
    return "".join(text[k].translate(_MIRRORED) if levels[k] % 2 else text[k] for k in order)


def _weak(kinds: list[str], start: str) -> list[str]:
    """Rules W1 to W7: marks, numbers and their separators."""
    found, strong, before = [], start, start
    for kind in kinds:
        kind = before if kind in ("NSM", "BN") else kind
        strong = kind if kind in ("L", *_RIGHT) else strong
        kind = "AN" if kind == "EN" and strong == "AL" else kind
        found.append(kind)
        before = kind
    found = ["R" if kind == "AL" else kind for kind in found]
    for k in range(1, len(found) - 1):
        left, right = found[k - 1], found[k + 1]
        if left == right and (left == "EN" and found[k] in ("ES", "CS") or left == "AN" and found[k] == "CS"):
            found[k] = left
    found = _terminators(found)
    strong = start
    for k, kind in enumerate(found):
        strong = kind if kind in ("L", "R") else strong
        found[k] = "L" if kind == "EN" and strong == "L" else "ON" if kind in ("ES", "ET", "CS") else kind
    return found


def _terminators(kinds: list[str]) -> list[str]:
    """Rule W5: signs such as % and $ beside a number belong to it."""
    found = list(kinds)
    for step in (1, -1):
        before = ""
        for k in range(len(found))[::step]:
            if found[k] == "ET" and before == "EN":
                found[k] = "EN"
            before = found[k]
    return found


def _brackets(text: str, kinds: list[str], base: int) -> list[str]:
    """Rule N0: both brackets of a pair get one direction."""
    found, home = list(kinds), "R" if base else "L"
    for first, last in _pairs(text, kinds):
        inside = {_side(kind) for kind in found[first + 1 : last]} - {""}
        if home in inside:
            found[first] = found[last] = home
        elif inside:
            before = next((_side(kind) for kind in reversed(found[:first]) if _side(kind)), home)
            found[first] = found[last] = before if before in inside else home
    return found


def _pairs(text: str, kinds: list[str]) -> list[tuple[int, int]]:
    """Places of the brackets that belong together, by where they open."""
    pairs, opened = [], list[int]()
    for k, char in enumerate(text):
        if kinds[k] != "ON":
            continue
        if char in _PAIRS:
            opened.append(k)
        elif char in _PAIRS.values():
            match = next((j for j in reversed(range(len(opened))) if _PAIRS[text[opened[j]]] == char), None)
            if match is not None:
                pairs.append((opened[match], k))
                del opened[match:]
    return sorted(pairs)


def _side(kind: str) -> str:
    """Direction of a resolved kind for its neighbours: numbers stand as in text read from the right."""
    return "R" if kind in ("R", "EN", "AN") else kind if kind == "L" else ""


def _neutral(kinds: list[str], base: int) -> list[str]:
    """Rules N1 and N2: spaces and signs between two of one direction take it, else that of the line."""
    found, home = list(kinds), "R" if base else "L"
    k = 0
    while k < len(found):
        end = k
        while end < len(found) and found[end] in _NEUTRAL:
            end += 1
        if end > k:
            before = _side(found[k - 1]) if k else home
            after = _side(found[end]) if end < len(found) else home
            found[k:end] = [before if before == after else home] * (end - k)
        k = max(end, k + 1)
    return found


def _level(kind: str, base: int) -> int:
    """Rules I1 and I2; an odd level is drawn from right to left."""
    if base:
        return 1 if kind == "R" else 2
    return {"L": 0, "R": 1}.get(kind, 2)


def _reversed_runs(order: list[int], marked: list[bool]) -> list[int]:
    """``order`` with every run of marked places turned round."""
    found, run = list[int](), list[int]()
    for place, turn in zip(order, marked, strict=True):
        if turn:
            run.append(place)
            continue
        found += run[::-1]
        run = []
        found.append(place)
    return found + run[::-1]
