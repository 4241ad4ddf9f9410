"""A careless user's mistakes: one line, the right exit code, nothing left behind."""

from __future__ import annotations

import json
import lzma
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import artifact, zoo
from slim.bundle import save
from slim.checkpoint import read_pdparams, write_pdparams
from slim.cli.app import COMMANDS
from slim.cli.main import run
from slim.config import find_config, load_config
from slim.pipeline.opening import open_model
from slim.progress import Silent
from slim.synth import synthesize

CLS = f"{zoo.PREFIX}ch_ppocr_mobile_v2.0_cls"
REC = f"{zoo.PREFIX}en_number_synthetic_crnn"
FEW = ["Prune.images=8", "Quant.images=8", "Quant.mode=ptq", "Check.simulation_images=8"]

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of a few rendered lines per task."""
    folder = tmp_path_factory.mktemp("few lines")
    for task in ("cls", "rec"):
        synthesize(task, folder / task, {"train": 16, "eval": 8, "calib": 8}, 3, None, Silent())
    return {task: folder / task for task in ("cls", "rec")}


def _data(folder: Path) -> list[str]:
    """Overrides that point a recipe at rendered lines."""
    found = []
    for section, name in (("Train", "train"), ("Eval", "eval"), ("Calibration", "calib")):
        found.append(f"{section}.dataset.data_dir='{folder}'")
        found.append(f"{section}.dataset.label_file_list=['{folder / name}.txt']")
    return found


def _inside(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_group_without_a_command_is_one_short_line(capsys: Capture) -> None:
    assert run(["config"]) == 2
    assert capsys.readouterr().err == "slim: no command given; see 'slim config --help'\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json_and_seed(name: str, capsys: Capture) -> None:
    for args in [[name]] if name != "config" else [[name, sub] for sub in ("check", "list", "show")]:
        assert run([*args, "--help"]) == 0
        said = capsys.readouterr().out
        assert "--json" in said and "--seed" in said


@pytest.mark.parametrize("args", [["models", "--json", "show"], ["models", "show", "--json"]])
def test_json_before_or_behind_the_subcommand(args: list[str], capsys: Capture) -> None:
    assert run([*args, CLS]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "cls"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [1]\nb: [*a, *a]\nc: &c !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("Global:\n  epoch_num: 1\n  epoch_num: 2\n", "stands twice, first in line 2; keep one"),
        ("a: " + "[" * 2000, "nested deeper"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [" + "*a," * 99 + "]\nc: &c [" + "*b," * 99 + "]\n", "expand to"),
        ("", "is empty"),
        ("Global: {epoch_nun: 1}\n", "did you mean epoch_num?"),
    ],
)
def test_a_bad_config_is_refused(text: str, said: str, tmp_path: Path, refused: Refused) -> None:
    config = tmp_path / "my config.yml"
    config.write_text(text, encoding="utf-8")
    refused(["config", "check", str(config)], said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "label file is empty"),
        (b"\r\n\n", "label file is empty"),
        (b"images/none.jpg\t0\n", "cannot read image"),
        (b"broken.jpg\t0\n", "not a readable image"),
        (b"broken.jpg 0\n", "line has no tab"),
        (b"broken.jpg\t90\n", "cls label is '90'"),
    ],
)
def test_bad_labels_are_named(content: bytes, said: str, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    (tmp_path / "labels.txt").write_bytes(content)
    refused(["eval", "--model", CLS, "--data", str(tmp_path / "labels.txt")], said)


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def _bad_checkpoint(kind: str, path: Path) -> None:
    whole = zoo.find(CLS).path.read_bytes()
    if kind == "hostile":
        path.write_bytes(pickle.dumps({"a": _Hostile()}))
    elif kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "nan":
        state = {
            name: np.full_like(value, np.nan) for name, value in read_pdparams(zoo.find(CLS).path).items()
        }
        write_pdparams(state, path)
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "said"),
    [("cut", "truncated"), ("empty", "is empty"), ("hostile", "not opened"), ("nan", "hold NaN")],
)
def test_a_bad_checkpoint_is_not_opened(
    kind: str,
    said: str,
    tmp_path: Path,
    lines: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
) -> None:
    monkeypatch.chdir(tmp_path)
    _bad_checkpoint(kind, tmp_path / "m.pdparams")
    refused(["eval", "--model", "m.pdparams", "--data", str(lines["cls"] / "eval.txt")], said)
    assert _inside(tmp_path) == {"m.pdparams"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["-c", "cls/cls_demo", "--model", REC],
            "set Global.label_list to those of the training, or give a cls",
        ),
        (
            ["-c", "rec/en_number_demo", "--model", CLS],
            "the head has 2 classes, but dictionary + space + blank",
        ),
        (
            ["-c", "rec/en_number_demo", "-o", "Global.use_space_char=false"],
            "gives 96; set Global.character_dict",
        ),
    ],
)
def test_a_head_of_another_width_says_what_to_set(
    args: list[str], said: str, lines: dict[str, Path], refused: Refused
) -> None:
    refused(["eval", *args, "--data", str(lines["rec"] / "eval.txt")], said)


@pytest.mark.parametrize("stage", ["prune", "quant"])
@pytest.mark.parametrize("kind", ["foreign", "file above"])
def test_an_out_that_cannot_be_written_is_refused_before_the_work(
    stage: str, kind: str, tmp_path: Path, lines: dict[str, Path], refused: Refused
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", encoding="utf-8")
    out = tmp_path / "mine" if kind == "foreign" else tmp_path / "mine" / "notes.txt" / "p"
    said = "files that slim did not write" if kind == "foreign" else "cannot write here ("
    refused([stage, "-c", "cls/cls_demo", "--out", str(out), "-o", *_data(lines["cls"])], said)
    assert _inside(tmp_path) == {"mine"} and _inside(tmp_path / "mine") == {"notes.txt"}


@pytest.mark.parametrize(
    "recipe",
    [
        ["prune", "-o", "Prune.method=ratio"],
        pytest.param(["prune"], marks=pytest.mark.slow),
        pytest.param(["quant"], marks=pytest.mark.slow),
    ],
)
def test_an_untrained_model_is_recognised(
    recipe: list[str], tmp_path: Path, lines: dict[str, Path], refused: Refused
) -> None:
    state = read_pdparams(zoo.find(REC).path)
    # A recognizer whose head knows nothing reads nothing; every other layer stays sound.
    state = {name: np.zeros_like(value) if "head." in name else value for name, value in state.items()}
    write_pdparams(state, tmp_path / "m.pdparams")
    command, *more = recipe
    args = [command, "-c", "rec/en_number_demo", "--model", str(tmp_path / "m.pdparams")]
    args += ["--out", str(tmp_path / "out"), *more, "-o", *FEW, *_data(lines["rec"])]
    line = refused(args, "is this checkpoint trained")
    assert line.startswith(f"{tmp_path / 'm.pdparams'}: the model's metric")
    assert _inside(tmp_path) == {"m.pdparams"}


@pytest.mark.parametrize("more", [["--compare"], ["--mode", "ptq", "--max-drop", "1"]])
def test_what_counts_right_lines_refuses_a_detector(
    more: list[str], tmp_path: Path, checkout: Path, lines: dict[str, Path], refused: Refused
) -> None:
    config, model = detector(tmp_path, checkout)
    args = ["quant", *more, "-c", str(config), "--out", str(tmp_path / "q")]
    args += ["-o", f"Global.pretrained_model={model}", *_data(lines["cls"])]
    refused(args, "counts right lines, a detector has none")


def detector(folder: Path, checkout: Path) -> tuple[Path, Path]:
    """A detector's configuration, and random weights for it."""
    from slim.arch import build_net
    from slim.config import load_config
    from slim.config.spec import model_spec

    config = checkout / "tests/config/data/det_mv3_db.yml"
    spec = model_spec(load_config(config, [], notices=lambda line: None))
    net = build_net(spec.arch, spec.classes)
    model = folder / "det.pdparams"
    write_pdparams({name: value.numpy() for name, value in net.state_dict().items()}, model)
    return config, model


def test_compact_onto_a_folder_leaves_nothing(tmp_path: Path, checkout: Path, refused: Refused) -> None:
    (tmp_path / "folder").mkdir()
    nb = tmp_path / "block.nb"
    nb.write_bytes(lzma.decompress((checkout / "tests/golden/nb/block_conv1x1.nb.xz").read_bytes()))
    refused(["compact", str(nb), str(tmp_path / "folder")], "cannot write")
    refused(["compact", str(nb), str(tmp_path / "none" / "a.nb")], "cannot write")
    assert _inside(tmp_path) == {"folder", "block.nb"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file; give the refs.yml"),
        ("models: {m: 3}", "m: names no metric"),
        ("models: {m: {}}", "m: names no metric"),
        ("models: {m: {acc: {value: x, tolerance: 1, better: higher}}}", "'x' is not a number"),
    ],
)
def test_references_that_hold_nothing_are_no_pass(
    text: str | None, said: str, tmp_path: Path, refused: Refused
) -> None:
    refs, report = tmp_path / "refs.yml", tmp_path / "report.json"
    if text is not None:
        refs.write_text(text, encoding="utf-8")
    report.write_text(json.dumps({"model": "m", "metrics": {"acc": 1.0}}), encoding="utf-8")
    refused(["compare", "--baseline", str(refs), str(report)], said)


def test_a_full_disk_is_no_bug(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    def full(name: str) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr("slim.zoo.find", full)
    refused(["models", "show", "x"], "/somewhere: cannot read or write (No space left on device)")


def test_a_run_does_not_replace_somebodys_labels(
    tmp_path: Path, lines: dict[str, Path], refused: Refused
) -> None:
    (tmp_path / "labels.txt").write_text("mine", encoding="utf-8")
    args = ["run", "-c", "cls/cls_demo", "--out", str(tmp_path), "-o", *_data(lines["cls"])]
    refused(args, "holds labels.txt, which no run of slim wrote")
    assert _inside(tmp_path) == {"labels.txt"}


@pytest.mark.parametrize("ignored", [["--mode", "ptq"], ["--max-drop", "1"], ["--relative"], ["--analyze"]])
def test_compare_refuses_the_options_it_would_ignore(ignored: list[str], refused: Refused) -> None:
    args = ["quant", "-c", "rec/en_number_demo", "--compare", *ignored]
    refused(args, "--compare goes without --mode, --max-drop")


def test_a_plot_of_another_ending_is_refused(tmp_path: Path, refused: Refused) -> None:
    args = ["inspect", str(tmp_path / "m.nb"), "--plot", str(tmp_path / "g.gif")]
    refused(args, "ends in .svg")


def test_a_command_is_guessed_only_when_it_is_near(refused: Refused) -> None:
    refused(["benhc"], "no command 'benhc', did you mean bench?")
    assert "did you mean" not in refused(["nosuch"], "no command 'nosuch'")


def test_an_export_does_not_replace_its_own_model(tmp_path: Path, refused: Refused) -> None:
    out = str(tmp_path / "e")
    assert run(["export", CLS, "--out", out]) == 0
    before = _inside(tmp_path / "e")
    refused(["export-nb", out, "--out", out], "is the model itself")
    assert _inside(tmp_path / "e") == before


@pytest.mark.parametrize("stage", ["prune", "quant", "export", "export-nb"])
def test_a_stage_does_not_replace_its_own_model(
    stage: str, tmp_path: Path, lines: dict[str, Path], refused: Refused
) -> None:
    config = load_config(find_config("cls/cls_demo"))
    with artifact.writing(tmp_path / "p") as folder:
        save(open_model(CLS, config, Silent()), folder)
        artifact.seal(folder, "prune", recipe={}, parent="", seed=0)
    model = str(tmp_path / "p")
    if stage in ("prune", "quant"):
        args = [stage, "-c", "cls/cls_demo", "--model", model, "-o", *_data(lines["cls"])]
    else:
        args = [stage, model]
    refused([*args, "--out", model], "is the model itself")
    artifact.verify(tmp_path / "p")
