"""The whole road on a real model with a tiny schedule: what it leaves, that it resumes, that it reopens."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import zoo
from slim.artifact import read_manifest, verify
from slim.checkpoint import read_pdparams, write_pdparams
from slim.cli.main import run
from slim.errors import GateFailed
from slim.pipeline import lineage
from slim.pipeline.opening import open_model
from slim.pipeline.run import _withdraw
from slim.progress import Silent

TINY = [
    "Prune.images=32",
    "Prune.ratios=[0.25]",
    "Prune.bn_batches=2",
    "Prune.Finetune.steps=2",
    "Prune.Finetune.batch_size=8",
    "Quant.images=16",
    "Quant.Finetune.steps=2",
    "Quant.Finetune.batch_size=8",
    "Check.images=60",
    "Check.simulation_images=20",
    # Two steps on 96 lines prove nothing about accuracy; the demo and its references do.
    "Check.max_drop=60",
    # An image between two classes may be read either way by another rounding: one of 20 is 0.05.
    "Check.min_agreement=0.9",
]


@pytest.fixture(scope="module")
def done(overrides: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("run") / "cls"
    args = ["run", "-c", "cls/cls_demo", "--out", str(out), "--json", "-o", *TINY, *overrides["cls"]]
    assert run(args) == 0
    return out, args


def _report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_it_leaves_what_an_app_and_a_ci_need(done: tuple[Path, list[str]]) -> None:
    out, _ = done
    names = [
        "model.arm.nb",
        "model.x86.nb",
        "labels.txt",
        "preprocess.json",
        "report.md",
        "report.html",
        "predictions.jsonl",
    ]
    assert all((out / name).stat().st_size > 0 for name in names)
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 60


def _keys(value: Any, at: str, opaque: set[str]) -> set[str]:
    """Paths of a report as docs/REPORT.md writes them; what stands in ``opaque`` is not looked into."""
    if at in opaque or not isinstance(value, (dict, list)):
        return {at}
    if isinstance(value, list):
        found = {at} | {path for part in value for path in _keys(part, f"{at}[]", opaque)}
        return found - {f"{at}[]"}
    paths: set[str] = set()
    for name, part in value.items():
        inner = f"{at}.{name}" if at else name
        paths |= _keys(part, f"{at}.*" if f"{at}.*" in opaque else inner, opaque)
    return paths


def test_every_key_of_the_report_is_documented(done: tuple[Path, list[str]], checkout: Path) -> None:
    page = (checkout / "docs" / "REPORT.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (maybe)?", page, re.M)
    documented = {name for name, _, _ in rows}
    always = {name for name, _, maybe in rows if not maybe}
    opaque = {f"{name}.*" for name in ("metrics", "files", "recipe", "data", "tools")}
    opaque |= {"steps", "notes", "layers[].merged", "tensors.*[].shape"}
    report = _report(done[0])
    found = {key for key in _keys(_starred(report), "", opaque) if not key.endswith(".*") or key in opaque}
    for name in ("differing", "layers"):  # no element, no key of an element
        if not report.get(name):
            always = {key for key in always if not key.startswith(f"{name}[]")}
    assert sorted(found - documented) == []
    assert sorted(always - found) == []


def _starred(report: dict[str, Any]) -> dict[str, Any]:
    """Names that are data (files, runtimes, groups) become ``*``, their parts put together."""
    report = dict(report)
    for name in ("tensors", "latency"):
        report[name] = {"*": next(iter(report[name].values()))}
    groups = report["sensitivity"]["groups"]
    report["sensitivity"] = dict(report["sensitivity"]) | {"groups": {"*": next(iter(groups.values()))}}
    return report


def test_the_report_lists_the_steps_with_their_weights(done: tuple[Path, list[str]]) -> None:
    report = _report(done[0])
    assert [step["stage"] for step in report["steps"]] == ["float", "prune", "quant", "export-nb"]
    assert report["steps"][1]["finetune_steps"] == report["steps"][2]["finetune_steps"] == 2
    assert report["steps"][1]["cut_weights"] not in (
        report["steps"][0]["weights"],
        report["steps"][1]["weights"],
    )
    assert set(report["steps"][3]["files"]) == {"model.arm.nb", "model.x86.nb"}
    assert report["steps"][0]["source"] == "zoo:ch_ppocr_mobile_v2.0_cls"
    assert report["steps"][1]["before"] == report["steps"][0]["weights"]
    assert report["steps"][2]["before"] == report["steps"][1]["weights"]
    assert len({step["weights"] for step in report["steps"][:3]}) == 3
    stages = [row["stage"] for row in report["stages"]]
    assert stages == ["original", "prune", "quant", "inference", "arm nb", "x86 nb"]
    assert report["metrics"]["flops"] < 0.85 * report["stages"][0]["flops"]


def test_every_check_of_the_recipe_was_made(done: tuple[Path, list[str]]) -> None:
    names = " ".join(check["name"] for check in _report(done[0])["checks"])
    for part in (
        "accuracy lost",
        "multiply-adds pruned",
        "share of the original's",
        "inference folder",
        "int8",
    ):
        assert part in names


def test_a_second_run_does_nothing_again(
    done: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, args = done
    before = {name: read_manifest(out / name) for name in ("prune", "quant", "export", "float")}
    stamps = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in before}
    assert run(args) == 0
    said = capsys.readouterr().err
    assert all(f"{name}: already done" in said for name in before)
    assert stamps == {name: (out / name / "manifest.json").stat().st_mtime_ns for name in before}


def test_the_quantized_pruned_model_reopens_with_the_same_outputs(done: tuple[Path, list[str]]) -> None:
    folder = done[0] / "quant"
    first, second = (open_model(str(folder), None, Silent()) for _ in range(2))
    assert len(first.cuts) == 1 and first.scheme is not None
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 192)).astype(np.float32)
    assert np.array_equal(first.run(x), second.run(x))
    manifest = verify(folder)
    assert manifest.facts["lineage"][-1]["weights"] == first.sha256()


def test_a_missed_bound_fails_the_run(
    done: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, args = done
    assert run([*args, "-o", "Check.max_nb_ratio=0.01"]) == GateFailed.exit_code
    out = capsys.readouterr()
    assert json.loads(out.out)["passed"] is False
    assert "share of the original's" in out.err


def test_the_page_shows_the_run(done: tuple[Path, list[str]]) -> None:
    """Real curves, the files as points, the changed images with their pictures, the recipes of all stages."""
    page = (done[0] / "report.html").read_text(encoding="utf-8")
    report = _report(done[0])
    assert page.count("<circle") == 4  # float arm nb, inference program, arm nb, x86 nb
    assert page.count("<polyline") == len(report["sensitivity"]["groups"]) > 20
    shown = report["differing"][:24]
    assert page.count("data:image/png;base64,") == len(shown) > 0
    assert set(report["recipe"]) == {"Prune", "Quant", "Export", "Check"}
    assert report["recipe"]["Prune"]["Finetune"]["steps"] == 2
    kinds = [row["kind"] for row in report["differing"]]
    assert kinds == sorted(kinds, key=("lost", "gained", "other").index)
    assert report["changed"] == {kind: kinds.count(kind) for kind in ("lost", "gained", "other")}
    removed = [p["removed"] for points in report["sensitivity"]["groups"].values() for p in points]
    assert min(removed) > 0.0 and max(removed) <= 0.25 + 0.125  # ratio 0.25 of at least 8 channels, rounded


def test_metrics_hold_latency_and_its_ratio(done: tuple[Path, list[str]]) -> None:
    metrics = _report(done[0])["metrics"]
    ratio = metrics["x86_latency_ms"] / metrics["original_latency_ms"]
    assert metrics["x86_latency_ratio"] == pytest.approx(ratio) and "original_latency_ratio" not in metrics


def test_a_changed_page_of_curves_is_left_out_with_a_word(
    done: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from slim.cli.console import ConsoleReporter
    from slim.pipeline.reporting import sensitivity

    folder = tmp_path / "prune"
    shutil.copytree(done[0] / "prune", folder)
    (folder / "sensitivity.json").write_text('{"version": 99}')
    past = [dict(read_manifest(folder).facts["lineage"][-1]) | {"out": str(folder)}]
    kept, _ = lineage.folders(past)
    assert sensitivity(kept, ConsoleReporter(sys.stderr)) is None
    assert "sensitivity version is 99" in capsys.readouterr().err


def test_a_run_of_another_model_that_fails_leaves_no_result_of_the_old_one(
    done: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out, args = tmp_path / "cls", list(done[1])
    shutil.copytree(done[0], out)
    state = read_pdparams(zoo.find("ch_ppocr_mobile_v2.0_cls").path)
    # A head of zeros has no int8 scale: the run fails at its last stage but one, after prune and quant.
    write_pdparams(
        {n: v * 0 if n.startswith("head.") else v for n, v in state.items()}, tmp_path / "m.pdparams"
    )
    args[args.index("--out") + 1] = str(out)
    assert run([*args[:3], "--model", str(tmp_path / "m.pdparams"), *args[3:], "Prune.method=ratio"]) == 2
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert left.isdisjoint({"report.json", "report.html", "model.arm.nb", "labels.txt", "preprocess.json"})
    verify(out / "export")  # the old files themselves are not lost


def test_labels_of_somebody_are_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export/labels.txt").write_text("0\n", encoding="utf-8")
    for text in ("mine\n", "0\n"):
        (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
        _withdraw(tmp_path)
        assert (tmp_path / "labels.txt").exists() == (text == "mine\n")
