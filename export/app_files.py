"""What an app needs beside the nb: `labels.txt` and `preprocess.json`, enough to do without our code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slim import artifact
from slim.errors import InputError
from slim.ocr.ctc import TIME_STRIDE
from slim.ocr.preprocess import DET_MULTIPLE
from slim.spec import BLANK, ModelSpec

LABELS = "labels.txt"
PREPROCESS = "preprocess.json"
BLANK_LINE = "<blank>"


def write_app_files(spec: ModelSpec, folder: Path) -> None:
    """Write both files; they change when the spec does.

    ``labels.txt``: UTF-8, one label per line, each line ended by one line feed; line i (from 0) is class i of
    the output. The CTC blank is written as ``<blank>``, the space as one space. It is complete: an app adds
    neither blank nor space (Paddle-Lite's demo apps add both to a bare dictionary, which would shift every
    class).
    ``preprocess.json``: see `preprocess_facts`.
    """
    for label in spec.labels:
        if "\n" in label or "\r" in label or label == BLANK_LINE:
            raise InputError(f"label {label!r} cannot stand on a line of {LABELS}")
    lines = [BLANK_LINE if label == BLANK else label for label in spec.labels]
    (folder / LABELS).write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))
    artifact.write_json(folder / PREPROCESS, preprocess_facts(spec))


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of ``labels.txt`` as in a ModelSpec (blank as "")."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read labels ({error})", where=path) from error
    return tuple(BLANK if line == BLANK_LINE else line for line in text.split("\n")[:-1])


def preprocess_facts(spec: ModelSpec) -> dict[str, Any]:
    """Input, resizing, padding, output and decoding of a model in words and numbers.

    ``value = (pixel * scale - mean[c]) / std[c]`` for pixel 0..255, c in the order of ``channel_order``.
    """
    inp = spec.input
    return {
        "model": spec.name,
        "kind": spec.kind,
        "input": {
            "layout": "NCHW",
            "dtype": "float32",
            "channels": inp.channels,
            "height": None if inp.dynamic_height else inp.height,
            "width": inp.width if not inp.dynamic_height else None,
            "width_is_dynamic": inp.dynamic_width,
            "height_is_dynamic": inp.dynamic_height,
        },
        "channel_order": inp.order,
        "normalise": {
            "formula": "(pixel * scale - mean[c]) / std[c]",
            "scale": inp.scale,
            "mean": list(inp.mean),
            "std": list(inp.std),
        },
        "resize": _resize(spec),
        "output": _output(spec),
        "labels": _labels(spec),
        "postprocess": dict(spec.post),
    }


def _resize(spec: ModelSpec) -> dict[str, Any]:
    if spec.kind == "det":
        longest = spec.input.limit_type == "max"
        change = "shrink so that the longest" if longest else "enlarge so that the shortest"
        side = "longest_side" if longest else "shortest_side"
        return {
            "rule": f"{change} side is at {'most' if longest else 'least'} {side}, then round both sides to "
            "multiples of multiple_of, at least one multiple",
            "interpolation": "bilinear",
            side: spec.input.limit_side,
            "multiple_of": DET_MULTIPLE,
        }
    return {
        "rule": "new_width = min(width, ceil(height * image_width / image_height)), at least 1; "
        "resize to height x new_width, normalise, then pad on the right up to width",
        "interpolation": "bilinear",
        "padding_side": "right",
        "padding_value_after_normalisation": 0.0,
    }


def _output(spec: ModelSpec) -> dict[str, Any]:
    if spec.kind == "det":
        return {"layout": "N x 1 x H x W", "meaning": "probability of text at each pixel (DB shrink map)"}
    if spec.kind == "cls":
        return {"layout": "N x classes", "meaning": "probabilities; the label is the largest"}
    return {
        "layout": "N x T x classes",
        "time_steps": f"width / {TIME_STRIDE}",
        "meaning": "probabilities; greedy CTC: largest class of each step, repeats merged, blanks dropped; "
        "confidence is the mean probability of the kept steps",
    }


def _labels(spec: ModelSpec) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "file": LABELS,
        "count": len(spec.labels),
        "rule": "line i, counted from 0, is class i; the list is complete, add neither blank nor space",
    }
    if spec.kind == "rec":
        facts["blank_index"] = spec.labels.index(BLANK)
        facts["blank_line"] = BLANK_LINE
        facts["space_indices"] = [i for i, label in enumerate(spec.labels) if label == " "]
    return facts
