"""Paired statistics: noise on a small set fails no build, a real loss does; what cannot be paired is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slim.cli.main import run
from slim.compare import compare, read_references
from slim.errors import InputError
from slim.evaluate import read_predictions, write_predictions

WriteRun = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


def _right(n: int, *wrong: int) -> list[bool]:
    return [i not in wrong for i in range(n)]


@pytest.fixture
def refs(tmp_path: Path, write_run: WriteRun) -> Path:
    """References with predictions: 60 images, 3 of them wrong."""
    path = tmp_path / "a refs.yml"
    report = write_run("then", _right(60, 0, 1, 2))
    assert run(["compare", "--update", "--predictions", "--baseline", str(path), str(report)]) == 0
    # One point: what a person may write who thinks of large sets.
    lines = path.read_text().splitlines()
    lines = [x.replace("8.34", "1") if "accuracy" in x or "drop" in x else x for x in lines]
    path.write_text("\n".join(lines))
    return path


def _verdicts(refs: Path, report: Path) -> dict[str, str]:
    return {row.metric: row.verdict for row in compare(read_references(refs), [report], seed=1).rows}


def test_noise_on_a_small_set_fails_nothing(refs: Path, write_run: WriteRun) -> None:
    """Two more wrong and one less: 1.67 points, beyond the tolerance of 1, and no proof of anything."""
    now = write_run("now", _right(60, 1, 2, 10, 11))
    found = _verdicts(refs, now)
    assert found["arm_accuracy"] == found["arm_drop"] == found["paired_loss"] == "noise"
    assert run(["compare", "--baseline", str(refs), str(now)]) == 0


def test_a_real_loss_fails(refs: Path, write_run: WriteRun) -> None:
    """Six lost, none gained: p = 2 / 64."""
    now = write_run("now", _right(60, 0, 1, 2, *range(10, 16)))
    found = _verdicts(refs, now)
    assert found["arm_accuracy"] == found["arm_drop"] == found["paired_loss"] == "regression"
    assert run(["compare", "--baseline", str(refs), str(now)]) == 1


def test_five_lost_of_sixty_are_no_proof_and_six_are(refs: Path, write_run: WriteRun) -> None:
    five = compare(
        read_references(refs), [write_run("five", _right(60, 0, 1, 2, *range(10, 15)))], seed=1
    ).pairs["cls"]
    assert (five.lost, five.gained, five.p, five.noise) == (5, 0, 0.0625, True)
    assert five.low < 100 * 5 / 60 < five.high and five.points == pytest.approx(100 * 5 / 60)


@pytest.mark.parametrize(("n", "verdict"), [(5, "regression"), (49, "regression"), (50, "noise")])
def test_a_set_too_small_excuses_nothing(tmp_path: Path, write_run: WriteRun, n: int, verdict: str) -> None:
    """Five lost, none gained, p 0.0625: of 50 images they can be chance, of fewer the tolerance judges."""
    path = tmp_path / "refs.yml"
    then = write_run("then", _right(n))
    assert run(["compare", "--update", "--predictions", "--baseline", str(path), str(then)]) == 0
    assert _verdicts(path, write_run("now", _right(n, 0, 1, 2, 3, 4)))["paired_loss"] == verdict


@pytest.mark.parametrize("lost", [1, 4])
def test_a_few_of_forty_may_be_lost_and_five_may_not(tmp_path: Path, write_run: WriteRun, lost: int) -> None:
    """Too few images for the test: the tolerance that --update wrote must let through what proves nothing."""
    path = tmp_path / "refs.yml"
    then = write_run("then", _right(40))
    assert run(["compare", "--update", "--predictions", "--baseline", str(path), str(then)]) == 0
    assert run(["compare", "--baseline", str(path), str(write_run("now", _right(40, *range(lost))))]) == 0
    five = write_run("five", _right(40, *range(5)))
    assert _verdicts(path, five)["paired_loss"] == "regression"


def test_a_loss_the_pairs_do_not_explain_is_not_excused(refs: Path, write_run: WriteRun) -> None:
    """The report's accuracy is of other images than its predictions: chance on these says nothing of it."""
    now = write_run("now", _right(60, 0, 1, 2, 10), arm_accuracy=80.0)
    assert _verdicts(refs, now)["arm_accuracy"] == "regression"


def test_a_gain_is_flagged_and_fails_on_request(refs: Path, write_run: WriteRun, capsys: Capture) -> None:
    now = write_run("now", _right(60, 0, 1, 2), arm_nb_bytes=500)
    assert run(["compare", "--baseline", str(refs), str(now)]) == 0
    assert "cls arm_nb_bytes is better than expected" in capsys.readouterr().err
    assert run(["compare", "--baseline", str(refs), str(now), "--fail-on-gain"]) == 1


def test_equal_accuracy_with_other_texts_is_seen(refs: Path, write_run: WriteRun) -> None:
    """As many right as before, on other images: 6 of 60 texts differ, agreement 90 of 100 +- 8.33."""
    now = write_run("now", _right(60, 3, 4, 5))
    found = _verdicts(refs, now)
    assert found["arm_accuracy"] == "ok" and found["agreement"] == "regression"


def test_changed_images_are_listed_with_both_texts(refs: Path, write_run: WriteRun, capsys: Capture) -> None:
    now = write_run("now", _right(60, 1, 2, 10))
    run(["compare", "--baseline", str(refs), str(now)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "img/" in line]
    assert lines[0].split() == ["lost", "img/10.png", "'text", "10'", "'text", "10'", "'wrong'"]
    assert lines[1].split()[:2] == ["gained", "img/0.png"]
    run(["compare", "--baseline", str(refs), str(now), "--json"])
    changed = json.loads(capsys.readouterr().out)["pairs"]["cls"]["changed"]
    assert changed[0] == {
        "ref": "img/10.png", "expected": "text 10", "reference": "text 10", "text": "wrong", "kind": "lost",
    }  # fmt: skip


def test_images_that_were_not_scored_fail(refs: Path, write_run: WriteRun) -> None:
    rows = compare(read_references(refs), [write_run("now", _right(50, 0, 1, 2))]).rows
    row = next(row for row in rows if row.metric == "paired_loss")
    assert (row.verdict, row.note) == (
        "missing",
        "10 of the reference's 60 images were not scored, img/50.png first",
    )


@pytest.mark.parametrize("n", [60, 70, 90, 227])
def test_five_changed_images_fail_on_no_size(tmp_path: Path, write_run: WriteRun, n: int) -> None:
    """500 / 60 is 8.333..: a tolerance rounded down to 8.33 would be less than five images."""
    refs = tmp_path / "refs.yml"
    assert (
        run(["compare", "--update", "--predictions", "--baseline", str(refs), str(write_run("a", _right(n)))])
        == 0
    )
    found = _verdicts(refs, write_run("b", _right(n, *range(5))))
    assert set(found.values()) <= {"ok", "noise"}, found
    assert "regression" in _verdicts(refs, write_run("c", _right(n, *range(6)))).values()


def test_a_loss_of_just_the_tolerance_is_within_it(tmp_path: Path, write_run: WriteRun) -> None:
    """6 of 600 after 20: 96.666.. stored with fewer digits would be off by more than the tolerance."""
    refs, wrong = tmp_path / "refs.yml", range(20)
    first = write_run("a", _right(600, *wrong))
    assert run(["compare", "--update", "--predictions", "--baseline", str(refs), str(first)]) == 0
    found = _verdicts(refs, write_run("b", _right(600, *wrong, *range(20, 26))))
    assert found["arm_accuracy"] == found["arm_drop"] == found["paired_loss"] == "ok"


def test_images_that_are_not_in_the_references_are_told(refs: Path, write_run: WriteRun) -> None:
    found = compare(read_references(refs), [write_run("now", _right(80, 0, 1, 2))]).pairs["cls"]
    assert (found.n, found.more) == (60, 20)
    assert found.line().endswith("; 20 more images of this run are not in the references")


def test_another_label_is_not_called_an_image_that_was_not_scored(refs: Path, write_run: WriteRun) -> None:
    now = write_run("now", _right(60, 0, 1, 2))
    path = now.parent / "predictions.jsonl"
    path.write_text(path.read_text().replace('"text 7"', '"text seven"'))
    row = next(row for row in compare(read_references(refs), [now]).rows if row.metric == "paired_loss")
    assert row.verdict == "missing"
    assert row.note == "1 of the reference's 60 images have another label now, img/7.png first"


def test_a_run_without_predictions_fails(refs: Path, write_run: WriteRun) -> None:
    now = write_run("now", _right(60, 0, 1, 2))
    (now.parent / "predictions.jsonl").unlink()
    assert _verdicts(refs, now)["agreement"] == "missing"


def test_an_image_named_twice_is_paired_in_order(refs: Path, write_run: WriteRun) -> None:
    now = write_run("now", _right(60, 0, 1, 2))
    path = next(refs.parent.glob("a refs.cls.predictions.jsonl"))
    for file in (path, now.parent / "predictions.jsonl"):
        rows = read_predictions(file)
        write_predictions([*rows, rows[0], rows[5]], file)
    refs.write_text("\n".join(line.split(', "sha256"')[0] + "}" if "sha256" in line else line
                              for line in refs.read_text().splitlines()))  # fmt: skip
    pairs = compare(read_references(refs), [now]).pairs["cls"]
    assert (pairs.n, pairs.same) == (62, 62)


@pytest.mark.parametrize(("damage", "said"), [("gone", "no such file"), ("changed", "sha256 differs")])
def test_stored_predictions_are_checked(refs: Path, write_run: WriteRun, damage: str, said: str) -> None:
    path = next(refs.parent.glob("*.cls.predictions.jsonl"))
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text().replace("wrong", "right"))
    with pytest.raises(InputError, match=said):
        compare(read_references(refs), [write_run("now", _right(60))])


def test_the_bootstrap_follows_the_seed(refs: Path, write_run: WriteRun) -> None:
    now = write_run("now", _right(60, 1, 2, 10, 11, 12))
    found = [compare(read_references(refs), [now], seed=seed).pairs["cls"] for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].p == found[2].p
