"""The harness: good folders pass, each kind of damage fails the check that is there for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from export import bench, check, compare, subjects
from export.check_report import MAX_LISTED, CheckReport, differing
from export.nb.format import read_nb, write_nb
from export.second_witness import second_witness
from slim import artifact
from slim.data.dataset import Line
from slim.errors import ArtifactError, InputError
from slim.evaluate import EvalResult, PredictionRow
from slim.stage import Check

from .conftest import Exported, Options


class Turned:
    """Rendered letters, every second line upside down: data for the classifier."""

    def __init__(self, count: int = 12, *, wrong: bool = False) -> None:
        self.count, self.wrong = count, wrong

    def __len__(self) -> int:
        return self.count

    def describe(self) -> dict[str, Any]:
        return {"path": "rendered", "count": self.count, "sha256": "0" * 64}

    def __getitem__(self, number: int) -> Line:
        import cv2

        image = np.full((48, 192, 3), 255, np.uint8)
        cv2.putText(image, f"Line {number}47", (6, 34), cv2.FONT_HERSHEY_DUPLEX, 1.0, (20, 20, 20), 2)
        turned = bool(number % 2)
        label = "180" if turned != self.wrong else "0"
        return Line(f"{number}.png", np.ascontiguousarray(image[::-1, ::-1]) if turned else image, label)


def run(exported: Exported, folder: Path | None = None, **more: Any) -> CheckReport:
    options = more.pop("options", Options())
    data = more.pop("data", Turned())
    more.setdefault("latency_runs", 3)
    return check.check(folder or exported.folder, data, options, shipped=exported.bundle, **more)


def found(report: CheckReport, *words: str) -> Check:
    matches = [c for c in report.checks if all(word in c.name for word in words)]
    assert len(matches) == 1, [c.name for c in report.checks]
    return matches[0]


def test_float_folder_passes(exported_cls: Exported) -> None:
    report = run(exported_cls, original=exported_cls.bundle)
    assert report.passed, [c.line() for c in report.checks if not c.passed]
    assert found(report, "inference program against the original", "largest").value <= 1e-6
    assert found(report, "model.x86.nb against", "largest").value <= 1e-5
    assert found(report, "accuracy lost by model.arm.nb").value == 0.0
    assert [row["stage"] for row in report.stages] == ["original", "inference", "arm nb", "x86 nb"]
    assert report.stages[2]["arm_bytes"] == exported_cls.result.files["arm"].bytes
    assert report.stages[0]["flops"] > 1e7 and report.stages[2]["drop"]["n"] == 12
    assert report.latency["x86"].p90_ms >= report.latency["x86"].p50_ms > 0
    json.dumps(report.to_json(), allow_nan=False)


def test_int8_folder_is_judged_by_its_arm_file(exported_int8: Exported, exported_cls: Exported) -> None:
    options = Options(max_nb_ratio=0.5, max_inference_mb=2.1)
    report = run(exported_int8, original=exported_cls.bundle, baseline=exported_cls.folder, options=options)
    assert report.passed, [c.line() for c in report.checks if not c.passed]
    assert found(report, "layers computed in int8").value == 54
    assert found(report, "share of the original's").value < 0.4
    assert found(report, "float view of the program", "largest").value <= 1e-5
    assert report.results["program"].images == 6 and report.results["arm"].images == 12
    assert report.witness is not None and report.witness.images == 4
    assert found(report, "same text in Paddle-Lite x86 on 4 images").value == 1.0
    assert report.to_json()["witness"]["max_abs"] == report.witness.max_abs
    # Quantizers are no parameters and have no multiply-adds.
    assert report.stages[2]["flops"] == report.stages[0]["flops"]


def test_second_witness_sees_another_file(
    exported_int8: Exported, exported_cls: Exported, tmp_path: Path
) -> None:
    """The twin: scored images of one file, the x86 runtime runs another."""
    report = run(exported_int8, original=exported_cls.bundle, baseline=exported_cls.folder)
    folder = exported_int8.copy(tmp_path / "other")
    model = read_nb(folder / "model.arm.nb")
    name = next(op.inputs["W"][0] for op in model.ops if op.type == "fc")
    model.params[name] = -model.params[name]
    write_nb(model, folder / "model.arm.nb")
    shipped = report.results["arm"]
    other = second_witness(folder / "model.arm.nb", shipped, Turned(), exported_int8.bundle.spec, 4, None)
    assert other.same_text < other.images == 4
    assert not other.check("model.arm.nb", 0.99).passed


def test_text_recognizer_with_another_width(exported_rec: Exported) -> None:
    report = run(exported_rec, data=None, original=exported_rec.bundle, options=Options(widths=(160,)))
    assert report.passed, [c.line() for c in report.checks if not c.passed]
    names = [c.name for c in report.tensors["model.x86.nb against the inference program"]]
    assert names == ["noise", "zeros", "blocks", "batch of 3", "width 160"]
    assert found(report, "model.x86.nb", "A, B, A").value == 0.0


@pytest.mark.parametrize("target", ["arm", "x86"])
def test_one_changed_weight_fails(exported_cls: Exported, tmp_path: Path, target: str) -> None:
    folder = exported_cls.copy(tmp_path / "damaged")
    path = folder / f"model.{target}.nb"
    model = read_nb(path)
    name = next(n for n, a in sorted(model.params.items()) if a.ndim == 4)
    changed = model.params[name].copy()
    changed.flat[0] += np.float32(0.5)
    model.params[name] = changed
    write_nb(model, path)
    report = run(exported_cls, folder, data=None)
    assert not found(report, f"model.{target}.nb against", "largest").passed


def test_nan_fails(exported_cls: Exported, tmp_path: Path) -> None:
    folder = exported_cls.copy(tmp_path / "nan")
    model = read_nb(folder / "model.arm.nb")
    name = next(n for n, a in sorted(model.params.items()) if a.ndim == 2)
    model.params[name] = np.full_like(model.params[name], np.nan)
    write_nb(model, folder / "model.arm.nb")
    report = run(exported_cls, folder, data=None)
    assert not found(report, "model.arm.nb against", "not finite").passed
    assert not found(report, "model.arm.nb against", "largest").passed


def test_lost_accuracy_fails_and_is_listed(exported_cls: Exported, tmp_path: Path) -> None:
    folder = exported_cls.copy(tmp_path / "worse")
    model = read_nb(folder / "model.arm.nb")
    name = next(n for n, a in sorted(model.params.items()) if a.ndim == 2)
    model.params[name] = model.params[name] * np.float32(-1)
    write_nb(model, folder / "model.arm.nb")
    report = run(exported_cls, folder, original=exported_cls.bundle, baseline=exported_cls.folder)
    assert not found(report, "accuracy lost by model.arm.nb").passed
    assert not found(report, "model.arm.nb: same text").passed
    assert report.differing and report.differing[0]["ref"].endswith(".png")
    assert report.changed["lost"] > 0 and sum(report.changed.values()) == len(report.differing)


def test_what_changed_is_counted_beyond_what_is_listed() -> None:
    def scored(right: Sequence[bool]) -> EvalResult:
        rows = [PredictionRow(f"{k}.png", "a", "a" if ok else "b", 0.9, ok) for k, ok in enumerate(right)]
        return EvalResult("rec", {"acc": 0.5}, rows, len(rows), 1.0, [])

    lost, gained = MAX_LISTED + 30, 50
    before, after = [True] * lost + [False] * gained, [False] * lost + [True] * gained
    listed, changed = differing(scored(before), scored(after))
    assert changed == {"lost": lost, "gained": gained, "other": 0}
    assert len(listed) == MAX_LISTED and {row["kind"] for row in listed} == {"lost"}


def test_a_page_counts_by_its_own_hmean() -> None:
    """No page is wholly right before: one that loses a region is lost all the same, the worst one first."""

    def scored(regions: Sequence[int], pages: Sequence[tuple[int, int, int]]) -> EvalResult:
        points = [[0, 0], [9, 0], [9, 9], [0, 9]]
        box = [[[x + 20 * k, y] for x, y in points] for k in range(9)]
        texts = [json.dumps([{"transcription": "", "points": p} for p in box[:n]]) for n in regions]
        rows = [PredictionRow(f"{k}.jpg", texts[0], text, 0.9, False) for k, text in enumerate(texts)]
        return EvalResult("det", {"hmean": 0.5}, rows, len(rows), 1.0, list(pages))

    before = scored([8, 8, 8, 0, 7], [(8, 8, 9), (8, 8, 9), (8, 8, 9), (0, 0, 0), (7, 7, 9)])
    after = scored([7, 5, 7, 1, 8], [(7, 7, 9), (5, 5, 9), (8, 7, 10), (0, 1, 0), (8, 8, 9)])
    listed, changed = differing(before, after)
    assert changed == {"lost": 3, "gained": 1, "other": 1}
    assert [row["ref"] for row in listed] == ["3.jpg", "1.jpg", "0.jpg", "4.jpg", "2.jpg"]
    assert listed[1]["original"] == "8 regions" and listed[1]["shipped"] == "5 regions"


def test_a_program_with_nothing_to_compare_it_with_is_refused(exported_cls: Exported, tmp_path: Path) -> None:
    folder = exported_cls.copy(tmp_path / "alone")
    for path in folder.glob("*.nb"):
        path.unlink()
    with pytest.raises(InputError, match="alone: holds no .nb file, and no original .* --original"):
        run(exported_cls, folder)
    assert run(exported_cls, folder, data=None, original=exported_cls.bundle).passed
    assert run(exported_cls, folder, data=None, options=Options(max_inference_mb=9.0)).passed
    assert not CheckReport("of nothing").passed


def test_what_times_are_of_is_said(exported_cls: Exported) -> None:
    notes = run(exported_cls, data=None).to_json()["notes"]
    assert bench.NOT_A_PHONE in notes and bench.EXECUTOR in notes


def test_times_are_of_one_thread_whatever_the_environment_says() -> None:
    class Seen:
        name, last_seconds = "seen", 0.001

        def run(self, x: np.ndarray) -> np.ndarray:
            threads.update(library["num_threads"] for library in threadpool_info())
            return x

        def close(self) -> None: ...

    threads: set[int] = set()
    with threadpool_limits(2):
        bench.latencies({"seen": Seen()}, np.zeros(1, np.float32), warm_up=0, runs=1)
    assert threads == {1}


def test_a_float_file_in_place_of_the_int8_one(
    exported_int8: Exported, exported_cls: Exported, tmp_path: Path
) -> None:
    folder = exported_int8.copy(tmp_path / "swapped")
    (folder / "model.arm.nb").write_bytes((exported_cls.folder / "model.arm.nb").read_bytes())
    report = run(exported_int8, folder, data=None)
    assert not found(report, "layers computed in int8").passed


def test_a_renamed_file_is_recognised(exported_cls: Exported, tmp_path: Path) -> None:
    folder = exported_cls.copy(tmp_path / "renamed")
    (folder / "model.x86.nb").write_bytes((folder / "model.arm.nb").read_bytes())
    with pytest.raises(ArtifactError, match="kernels are for arm, not x86"):
        subjects.open_exported(folder)


def test_changed_bytes_are_seen_through_the_manifest(exported_cls: Exported, tmp_path: Path) -> None:
    folder = exported_cls.copy(tmp_path / "sealed")
    assert subjects.open_exported(folder).warnings  # no manifest: said
    artifact.seal(folder, "export", recipe={}, parent="", seed=0)
    assert subjects.open_exported(folder).warnings == ()
    path = folder / "model.arm.nb"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="model.arm.nb was changed"):
        subjects.open_exported(folder)


def test_versions(exported_cls: Exported) -> None:
    opened = subjects.open_exported(exported_cls.folder)
    assert subjects.version_warnings(opened, None) == []
    assert subjects.version_warnings(opened, "2.13rc0") == []
    assert "app's runtime is 2.12" in subjects.version_warnings(opened, "2.12")[0]
    with pytest.raises(ArtifactError, match="is not like 2.13"):
        subjects.version_warnings(opened, "newest")


def test_an_untrained_original_is_refused(exported_cls: Exported) -> None:
    with pytest.raises(InputError, match="is this checkpoint trained"):
        run(exported_cls, original=exported_cls.bundle, baseline=exported_cls.folder, data=Turned(wrong=True))


def test_flops_gate(exported_cls: Exported) -> None:
    report = run(
        exported_cls,
        original=exported_cls.bundle,
        baseline=exported_cls.folder,
        data=None,
        options=Options(min_flops_cut=0.15),
    )
    gate = found(report, "multiply-adds pruned")
    assert gate.value == 0.0 and not gate.passed


def test_another_net_is_not_the_original(exported_cls: Exported) -> None:
    """Pruned or trained on: the distance to the original is shown, but only its texts are judged."""
    other = exported_cls.bundle.clone()
    other.net.head.fc.bias.set_value(paddle.to_tensor([0.5, -0.5]))
    report = run(exported_cls, original=replace(other, source="other"), data=None)
    label = "inference program against the original"
    assert max(row.max_abs for row in report.tensors[label]) > 1e-2
    assert not any(check.name.startswith(f"{label}: largest") for check in report.checks)


def test_comparison_sees_what_it_should() -> None:
    a = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)
    b = np.array([[0.2, 0.8], [0.4, 0.6]], np.float32)
    got = compare.compare_outputs("x", (2, 3, 4, 4), a, b)
    assert got.argmax_agreement == 0.5 and got.max_abs == pytest.approx(0.2)
    nan = compare.compare_outputs("x", (2, 3, 4, 4), a, a * np.float32("nan"))
    assert np.isnan(nan.max_abs) and not nan.finite and nan.to_json()["max_abs"] is None
    assert np.isnan(compare.compare_outputs("x", (1,), a, a[:1]).max_abs)


class Forgetful:
    """A runtime that remembers its last input."""

    name, last_seconds = "forgetful", 0.002

    def __init__(self) -> None:
        self.last = 0.0

    def run(self, x: np.ndarray) -> np.ndarray:
        out = x.sum(keepdims=True) + self.last
        self.last = float(x.sum())
        return out

    def close(self) -> None:
        return None


def test_a_memory_of_earlier_inputs_is_seen() -> None:
    one, two = np.ones((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), 2, np.float32)
    assert compare.repeats(Forgetful(), one, two) == 2.0


def test_latency_is_the_engines() -> None:
    measured = bench.latencies({"a": Forgetful()}, np.ones((1, 1, 1, 1), np.float32), runs=3)
    assert measured == {"a": bench.Latency(2.0, 2.0, 3, 2.0)}
