"""`slim import` from inference programs: weights come back, and what is another net is said to be one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import fixes, proto
from slim.bundle import Bundle
from slim.checkpoint import read_pdparams
from slim.cli.main import run
from slim.config import Config
from slim.errors import InputError, StageFailed, UnsupportedModel, UsageError
from slim.importing import proof
from slim.importing import run as importing
from slim.importing.graph import Graph
from slim.importing.match import match
from slim.importing.paddle_graph import paddle_graph
from slim.importing.run import Imported, import_model
from slim.pipeline.opening import open_model
from slim.progress import Silent
from slim.synth import synthesize

Recipe = Callable[..., Config]


def bring(source: Path, config: Config, out: Path, **options: Any) -> Imported:
    return import_model(source, config, out, **{"data": None, "seed": 1, "progress": Silent(), **options})


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_our_own_export_comes_back_bit_for_bit(
    kind: str, deployed: dict[str, Path], bundled: dict[str, Bundle], recipe: Recipe, tmp_path: Path
) -> None:
    done = bring(deployed[kind], recipe(kind), tmp_path / "m.pdparams")
    assert done.sha256 == bundled[kind].sha256()
    # Without a configuration, as any other checkpoint.
    assert open_model(str(done.out), None, Silent()).sha256() == done.sha256
    state = read_pdparams(done.out)
    assert {k: v.tobytes() for k, v in state.items()} == {
        k: v.tobytes() for k, v in bundled[kind].state().items()
    }
    assert done.notes == [] and all(check.bound == proof.BOUND == 1e-4 for check in done.checks)
    # Predictor against the net: the same sums in another order.
    assert max(check.value for check in done.checks) < 2e-5
    names = [check.name for check in done.checks]
    assert sum("noise" in name for name in names) >= 2 and sum("image" in name for name in names) == 8


@pytest.mark.parametrize("kind", ["cls", pytest.param("rec", marks=pytest.mark.slow)])
def test_a_folded_and_renamed_program_of_another_exporter_comes_back(
    kind: str,
    deployed: dict[str, Path],
    bundled: dict[str, Bundle],
    recipe: Recipe,
    tmp_path: Path,
    rewriter: Any,
) -> None:
    other = rewriter(deployed[kind])
    assert other.fold_norms() == 35
    fixes.fold_conv_bias(other.program)
    other.rename()
    done = bring(other.write(tmp_path / "other"), recipe(kind), tmp_path / "m.pdparams")
    assert "35 BatchNorms were folded" in done.notes[0]
    state, original = read_pdparams(done.out), bundled[kind].state()
    assert set(state) == set(original)
    stem = {key: original[f"backbone.conv1.bn.{key}"] for key in ("weight", "bias", "_mean", "_variance")}
    by = stem["weight"] / np.sqrt(stem["_variance"] + 1e-5)
    weight = original["backbone.conv1.conv.weight"] * by[:, None, None, None]
    # Float32 rounding of one product and one quotient; the weights reach 10.
    assert state["backbone.conv1.conv.weight"] == pytest.approx(weight, rel=1e-5, abs=1e-6)
    assert state["backbone.conv1.bn.bias"] == pytest.approx(
        stem["bias"] - stem["_mean"] * by, rel=1e-4, abs=1e-5
    )
    assert np.array_equal(state["head.fc.weight"], original["head.fc.weight"])


@pytest.mark.slow
def test_a_detector_comes_back_but_for_what_only_training_needs(
    recipe: Recipe, tmp_path: Path, checkout: Path
) -> None:
    import paddle

    from export.program import save_program
    from slim.arch import build_net
    from slim.config.spec import model_spec

    config = recipe(str(checkout / "tests/config/data/det_mv3_db.yml"))
    spec = model_spec(config)
    paddle.seed(5)
    net = build_net(spec.arch, 0)
    net.eval()
    bundle = Bundle(spec, net, source="random")
    save_program(bundle, tmp_path / "det" / "inference")
    done = bring(tmp_path / "det", config, tmp_path / "m.pdparams", seed=6)
    state, original = read_pdparams(done.out), bundle.state()
    assert set(state) == set(original)
    different = {name for name in state if not np.array_equal(state[name], original[name])}
    assert different and all(name.startswith("head.thresh.") for name in different)
    assert "tensors of head.thresh serve training only" in done.notes[0]


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (
            "rec",
            "Architecture.Neck.hidden_size=64",
            r"first at neck\.encoder\.lstm\.weight_ih_l0: .*\[192, 288\], the net's \[256, 288\]",
        ),
        (
            "rec",
            "Architecture.Backbone.disable_se=true",
            r"first at backbone\.blocks\.0\.linear_conv\.conv: .*is global_pool",
        ),
        pytest.param(
            "rec",
            "Architecture.Backbone.small_stride=[2,2,2,1]",
            r"blocks\.0\.bottleneck_conv.*stride is \(1, 1\), the net's \(2, 1\)",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "cls",
            "Architecture.Backbone.model_name=large",
            r"first at backbone\.blocks\.0\.bottleneck_conv",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_another_architecture_is_refused_at_its_first_difference(
    kind: str, changes: str, said: str, deployed: dict[str, Path], net_graph: Callable[..., Graph]
) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        match(net_graph(kind, changes), paddle_graph(deployed[kind] / "inference"))


def test_another_dictionary_is_refused_and_nothing_is_written(
    deployed: dict[str, Path], recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=r"first at head\.fc: .*\[96, 97\], the net's \[96, 96\]"):
        bring(deployed["rec"], recipe("rec", "Global.use_space_char=false"), tmp_path / "m.pdparams")
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_whose_net_cannot_run_is_one_line(
    deployed: dict[str, Path], recipe: Recipe, tmp_path: Path
) -> None:
    config = recipe("rec", "Architecture.Backbone.small_stride=[1,2,2,1]")
    with pytest.raises(UnsupportedModel, match="the configuration's net does not run") as caught:
        bring(deployed["rec"], config, tmp_path / "m.pdparams")
    assert "\n" not in str(caught.value)


def _gate(program: Any) -> None:
    gates = [op for op in proto.ops(program) if op.type == "hard_sigmoid"]
    proto.attr(gates[3], "slope").f = 1 / 6


def _epsilon(program: Any) -> None:
    norms = [op for op in proto.ops(program) if op.type == "batch_norm"]
    proto.attr(norms[2], "epsilon").f = 1e-3


def _no_softmax(program: Any) -> None:
    (softmax,) = (op for op in proto.ops(program) if op.type == "softmax")
    softmax.type = "sigmoid"


def _quantized(program: Any) -> None:
    first = next(op for op in proto.ops(program) if op.type == "relu")
    first.type = "fake_quantize_dequantize_moving_average_abs_max"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            _gate,
            r"the hardsigmoid behind backbone\.blocks\.5\.mid_se\.conv2.*slope is 0\.166667, the net's 0\.2",
        ),
        (_epsilon, r"backbone\.blocks\.0\.bottleneck_conv\.conv.*epsilon is 0\.001, the net's 1e-05"),
        (_no_softmax, r"the softmax behind head\.fc.*is sigmoid, the net's softmax"),
        (_quantized, "the model is quantized; import the float model"),
    ],
)
def test_a_program_with_one_other_op_is_refused_there(
    change: Callable[[Any], None],
    said: str,
    deployed: dict[str, Path],
    net_graph: Callable[..., Graph],
    tmp_path: Path,
    rewriter: Any,
) -> None:
    other = rewriter(deployed["cls"])
    change(other.program)
    with pytest.raises(UnsupportedModel, match=said):
        match(net_graph("cls"), paddle_graph(other.write(tmp_path / "other") / "inference"))


@pytest.mark.parametrize(
    ("kind", "weight"),
    [
        ("cls", "backbone.blocks.3.linear_conv.conv.weight"),
        pytest.param("rec", "neck.encoder.lstm.weight_hh_l1", marks=pytest.mark.slow),
        pytest.param("rec", "head.fc.bias", marks=pytest.mark.slow),
    ],
)
def test_one_changed_weight_is_found_by_running_both(
    kind: str, weight: str, deployed: dict[str, Path], recipe: Recipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, layer_of: Callable[[str], str],
) -> None:  # fmt: skip
    """The twin of the proof: a recovered weight is damaged before it is checked."""
    recover = importing.recover

    def damaged(*args: Any) -> Any:
        found = recover(*args)
        found.state[weight] = found.state[weight] * np.float32(1.05)
        return found

    monkeypatch.setattr(importing, "recover", damaged)
    with pytest.raises(StageFailed, match="the limit is 0.0001") as caught:
        bring(deployed[kind], recipe(kind), tmp_path / "m.pdparams")
    layer = layer_of(str(caught.value))
    assert weight.startswith(layer) or layer == "neck.encoder.lstm.weight_ih_l1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "inference.pdiparams").unlink(), "no such file"),
        (lambda folder: (folder / "inference.pdmodel").write_bytes(b"junk"), "is not a Paddle program"),
        (lambda folder: (folder / "inference.pdiparams").write_bytes(b"\0" * 9), "truncated or damaged"),
    ],
)
def test_a_damaged_source_is_one_line(
    damage: Callable[[Path], None],
    said: str,
    deployed: dict[str, Path],
    recipe: Recipe,
    tmp_path: Path,
    rewriter: Any,
) -> None:
    folder = rewriter(deployed["cls"]).write(tmp_path / "other")
    damage(folder)
    with pytest.raises(InputError, match=said):
        bring(folder, recipe("cls"), tmp_path / "m.pdparams")


def test_the_command_says_what_it_did_and_keeps_what_is_there(
    deployed: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [
        "import",
        str(deployed["cls"]),
        "-c",
        "cls/ch_ppocr_mobile_v2.0_cls",
        "--out",
        str(tmp_path / "m"),
    ]
    assert run([*args, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["kind"], data["tensors"]) == ("cls", 213) and data["checks"][0]["passed"] is True
    assert run(args) == 2
    assert "m.pdparams: is there already" in capsys.readouterr().err


def test_a_bare_inference_folder_opens_as_a_model(
    deployed: dict[str, Path], bundled: dict[str, Bundle], recipe: Recipe
) -> None:
    model = open_model(str(deployed["cls"]), recipe("cls"), Silent())
    assert model.sha256() == bundled["cls"].sha256() and model.source == str(deployed["cls"])
    with pytest.raises(UsageError, match="is a bare inference model; give its configuration with -c"):
        open_model(str(deployed["cls"]), None, Silent())


@pytest.mark.slow
def test_quant_takes_a_bare_inference_folder(
    deployed: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize("cls", tmp_path / "lines", {"train": 40, "eval": 40, "calib": 32}, 3, None, Silent())
    data = []
    for section, name in (("Train", "train"), ("Eval", "eval"), ("Calibration", "calib")):
        data.append(f"{section}.dataset.data_dir='{tmp_path / 'lines'}'")
        data.append(f"{section}.dataset.label_file_list=['{tmp_path / 'lines' / name}.txt']")
    args = ["quant", "-c", "cls/cls_demo", "--model", str(deployed["cls"]), "--out", str(tmp_path / "q1")]
    assert run([*args, "--mode", "ptq", "--json", "-o", "Quant.images=32", *data]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert all(check["passed"] for check in entry["checks"])
    assert {"scheme.json", "model.pdparams"} <= {path.name for path in (tmp_path / "q1").iterdir()}
