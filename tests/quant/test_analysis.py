"""The analysis and the search on a made-up model whose answer can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from quant.analysis import Analysis, Bench, Choice, LayerEffect, Shipped, measure, table
from quant.analysis_plot import draw_analysis
from quant.search import Bound, Search
from slim.errors import ArtifactError, GateFailed

IMAGES = 200
# path -> (bytes int8 saves, images int8 loses, distance int8 makes)
Toy = Mapping[str, tuple[int, int, float]]
TOY: Toy = {
    "conv1": (100, 0, 0.001),
    "conv2": (1000, 6, 0.5),  # worth 0.0005 a byte
    "se": (10, 4, 0.2),  # worth 0.02 a byte: goes first
    "fc": (5000, 1, 0.1),  # worth 0.00002 a byte
}
LAYERS = dict.fromkeys(TOY, "Conv2D")


class ToyShip:
    """Losses of the int8 layers add up; counts the files it had to make."""

    def __init__(self, toy: Toy = TOY) -> None:
        self.toy, self.made = toy, 0

    def __call__(self, choice: Choice) -> Shipped:
        self.made += 1
        int8 = [facts for path, facts in self.toy.items() if path not in choice]
        size = 10_000 + sum(facts[0] for path, facts in self.toy.items() if path in choice)
        lost = sum(facts[1] for facts in int8)
        correct = (False,) * lost + (True,) * (IMAGES - lost)
        return Shipped(size, correct, sum(facts[2] for facts in int8))


ORIGINAL = Shipped(30_000, (True,) * IMAGES, 0.0)


def bench(ship: ToyShip, path: Path | None = None, **key: object) -> Bench:
    return Bench(ship, key, path)


def test_effects_of_each_layer_off_and_on() -> None:
    effects = measure(bench(ToyShip()), LAYERS, ORIGINAL)
    se = next(e for e in effects if e.path == "se")
    assert se.bytes == 10 and se.off_gain == pytest.approx(2.0) and se.on_loss == pytest.approx(2.0)
    assert se.off_moved == pytest.approx(0.2) and se.worth == pytest.approx(0.02)
    assert [e.path for e in effects] == list(TOY)
    assert [row[0] for row in table(effects)] == ["layer", "se", "conv2", "fc", "conv1"]


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [
        (5.5, set()),  # all int8 lose 11 of 200 images
        (3.5, {"se"}),
        (3.0, {"conv2"}),  # se goes first and is not enough, conv2 follows and is enough without se
        (0.5, {"se", "conv2"}),
    ],
)
def test_the_smallest_file_within_the_bound(limit: float, chosen: set[str]) -> None:
    ship = bench(ToyShip())
    search = Search(ship, ORIGINAL, Bound(limit))
    if search.holds(frozenset(), "all layers int8"):
        found = search.found(frozenset())
    else:
        found = search.run(measure(ship, LAYERS, ORIGINAL))
    assert found.choice == chosen
    assert found.points <= limit and found.low <= found.points <= found.high
    assert found.shipped.bytes == 10_000 + sum(TOY[path][0] for path in chosen)
    assert found.to_json()["images"] == IMAGES


def test_a_relative_bound_is_a_share_of_the_original() -> None:
    assert Bound(1.0, relative=True).points_of(50.0) == 0.5
    assert Bound(1.0).points_of(50.0) == 1.0


def test_a_bound_that_only_a_float_file_holds_is_a_failed_gate() -> None:
    ship = bench(ToyShip(dict.fromkeys(TOY, (10, 5, 1.0))))
    search = Search(ship, ORIGINAL, Bound(0.0))
    with pytest.raises(GateFailed, match="no layer can stay int8"):
        search.run(measure(ship, LAYERS, ORIGINAL))


def test_a_stopped_run_goes_on_without_making_a_file_twice(tmp_path: Path) -> None:
    path = tmp_path / "quant_analysis.json"

    class Stopped(ToyShip):
        def __call__(self, choice: Choice) -> Shipped:
            if self.made == 5:
                raise KeyboardInterrupt
            return super().__call__(choice)

    with pytest.raises(KeyboardInterrupt):
        measure(bench(Stopped(), path, model="a"), LAYERS, ORIGINAL)
    rest = ToyShip()
    effects = measure(bench(rest, path, model="a"), LAYERS, ORIGINAL)
    whole = ToyShip()
    assert effects == measure(bench(whole, None, model="a"), LAYERS, ORIGINAL)
    assert rest.made == whole.made - 5
    other = ToyShip()
    measure(bench(other, path, model="b"), LAYERS, ORIGINAL)
    assert other.made == whole.made  # measurements of another model are not taken over


def test_halves_are_scored_once(tmp_path: Path) -> None:
    path, asked = tmp_path / "quant_analysis.json", []

    def score(half: str) -> float:
        asked.append(half)
        return {"weights": 90.0, "activations": 80.0}[half]

    assert bench(ToyShip(), path).halves(score) == {"weights": 90.0, "activations": 80.0}
    bench(ToyShip(), path).halves(score)
    assert asked == ["weights", "activations"]


@pytest.mark.parametrize("damage", ["version", "correct", "moved"])
def test_a_damaged_file_is_measured_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "quant_analysis.json"
    bench(ToyShip(), path)(frozenset())
    data = json.loads(path.read_text())
    if damage == "version":
        data["version"] = 99
    else:
        data["shipped"][0][damage] = "x"
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError):
        Analysis.from_json(data, where=path)
    ship = ToyShip()
    bench(ship, path)(frozenset())
    assert ship.made == 1


def test_the_picture_shows_every_layer(tmp_path: Path) -> None:
    import cv2

    effects = measure(bench(ToyShip()), LAYERS, ORIGINAL)
    flat = LayerEffect("no loss at all", "Conv2D", 5, 0.0, -1e-9, 0.0, 0.0)
    draw_analysis([*effects, flat], {"se"}, tmp_path / "a b" / "plot.png", title="toy")
    image = cv2.imread(str(tmp_path / "a b" / "plot.png"))
    assert image is not None and image.shape[1] == 1100
    orange = (np.abs(image.astype(int) - (0x00, 0x9F, 0xE6)).sum(axis=2) < 30).sum()
    assert orange > 50  # the layer that fell back has its own colour
