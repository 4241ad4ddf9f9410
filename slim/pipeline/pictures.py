"""The pictures of a report: the first changed images, small, inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slim.errors import InputError
from slim.report.tables import WORST_IMAGES

if TYPE_CHECKING:
    from slim.data.dataset import Dataset
    from slim.evaluate import EvalResult

# At most so many pixels high and wide: text stays readable, the page small.
_LINE, _PAGE = (40, 320), (480, 480)
# Blue and orange, in BGR: regions of the original wide, those of the shipped file narrow over them.
_OUTLINES = (("original", (178, 114, 0), 5), ("shipped", (0, 140, 255), 2))


def pictures(
    report: Mapping[str, Any], dataset: Dataset | None, results: Mapping[str, EvalResult]
) -> dict[int, str]:
    """Data URIs of the first changed images, by their place in the data set; of pages with their regions.

    An image that can no longer be read has no picture; its texts stand without one.

    Args:
        report: with ``differing``, ``kind`` and ``predictions``.
        results: name of a runtime -> what it found, "original" among them.
    """
    found: dict[int, str] = {}
    for row in report["differing"][:WORST_IMAGES] if dataset is not None else []:
        index = row["index"]
        try:
            image = dataset[index].image  # type: ignore[index]
        except InputError:
            continue
        if report["kind"] != "det":
            found[index] = picture(image)
            continue
        named = {"original": "original", "shipped": report["predictions"]["of"]}
        answers = {name: results[key].predictions[index].text for name, key in named.items()}
        found[index] = page(image, answers)
    return found


def picture(image: Any) -> str:
    """A uint8 H x W x 3 BGR image as a PNG data URI, at most 40 x 320 pixels."""
    return _uri(_fitted(image, *_LINE)[0], "png")


def page(image: Any, answers: Mapping[str, str]) -> str:
    """A page (uint8 H x W x 3, BGR) as a JPEG data URI, at most 480 x 480 pixels, with the regions found.

    Args:
        answers: "original" and "shipped" -> regions as a det label has them.
    """
    import cv2
    import numpy as np

    from slim.data.labels import parse_boxes

    small, scale = _fitted(image, *_PAGE)
    small = small.copy()
    for name, colour, thick in _OUTLINES:
        for box in parse_boxes(answers[name], "prediction", least=0):
            corners = np.rint(scale * np.asarray(box.points)).astype(np.int32)
            cv2.polylines(small, [corners.reshape(-1, 1, 2)], True, colour, thick, cv2.LINE_AA)
    return _uri(small, "jpeg")


def _fitted(image: Any, high: int, wide: int) -> tuple[Any, float]:
    """The image within limits, and the scale it was brought to, at most 1."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, high / height, wide / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _uri(image: Any, kind: str) -> str:
    import cv2

    ok, data = cv2.imencode(f".{kind}", image)
    if not ok:
        raise InputError(f"cannot be written as {kind}")
    return f"data:image/{kind};base64," + base64.b64encode(data.tobytes()).decode("ascii")
