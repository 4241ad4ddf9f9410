"""Bundles: from a checkpoint, through an artifact, replaying cuts; and what must be refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slim import artifact, bundle, zoo
from slim.checkpoint import read_pdparams, write_pdparams
from slim.errors import ArtifactError, CheckpointError, SlimError, UnsupportedModel
from slim.spec import InputSpec, ModelSpec

CLS = {
    "model_type": "cls",
    "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.35},
    "Head": {"name": "ClsHead", "class_dim": 2},
}
REC = {
    "model_type": "rec",
    "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.5, "small_stride": [1, 2, 2, 2]},
    "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 48},
    "Head": {"name": "CTCHead"},
}
SPECS = {
    "cls": ModelSpec("cls", "cls", CLS, ("0", "180"), InputSpec(48, 192)),
    "rec": ModelSpec(
        "rec", "rec", REC, ("", *(f"c{k}" for k in range(96))), InputSpec(32, 320, dynamic_width=True)
    ),
}
FILES = {
    "cls": zoo.find("ch_ppocr_mobile_v2.0_cls").path,
    "rec": zoo.find("en_number_synthetic_crnn").path,
}


@pytest.fixture(scope="module")
def opened() -> dict[str, bundle.Bundle]:
    return {kind: bundle.from_checkpoint(SPECS[kind], FILES[kind]) for kind in SPECS}


def image(kind: str) -> np.ndarray:
    height, width = SPECS[kind].input.height, SPECS[kind].input.width
    return np.random.default_rng(0).normal(0, 0.5, (2, 3, height, width)).astype(np.float32)


def save(model: bundle.Bundle, folder: Path) -> None:
    with artifact.writing(folder) as tmp:
        bundle.save(model, tmp)
        artifact.seal(tmp, "train", recipe={}, parent="", seed=0)


def reseal(folder: Path) -> None:
    """Write the manifest again: what someone does who may alter files and hashes."""
    (folder / "manifest.json").unlink()
    artifact.seal(folder, "train", recipe={}, parent="", seed=0)


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_through_an_artifact_weights_and_outputs_are_the_same_bytes(opened, tmp_path, kind):
    save(opened[kind], tmp_path / "p1")
    again = bundle.from_artifact(tmp_path / "p1")
    assert again.spec == SPECS[kind] and again.sha256() == opened[kind].sha256()
    assert again.run(image(kind)).tobytes() == opened[kind].run(image(kind)).tobytes()
    assert not again.net.training


def test_a_clone_is_independent(opened):
    copy = opened["cls"].clone()
    assert copy.sha256() == opened["cls"].sha256()
    copy.net.head.fc.bias.set_value(np.ones(2, np.float32))
    assert copy.sha256() != opened["cls"].sha256()


def test_run_leaves_the_nets_mode_as_it_was(opened):
    model = opened["cls"].clone()
    model.net.train()
    before = model.sha256()
    probabilities = model.run(image("cls"))
    assert model.net.training and model.sha256() == before
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)  # softmax in float32


def test_the_name_without_extension_is_accepted(opened, tmp_path):
    write_pdparams(opened["cls"].state(), tmp_path / "best_accuracy.pdparams")
    found = bundle.from_checkpoint(SPECS["cls"], tmp_path / "best_accuracy")
    assert found.sha256() == opened["cls"].sha256()
    with pytest.raises(CheckpointError, match="latest: no such file"):
        bundle.from_checkpoint(SPECS["cls"], tmp_path / "latest")


@pytest.mark.parametrize("kept", ["flat", "cells"])
def test_lstm_tensors_may_stand_under_either_name(opened, tmp_path, kept):
    state = {
        name: array
        for name, array in read_pdparams(FILES["rec"]).items()
        if ".lstm." not in name or (".cell_" in name) == (kept == "cells")
    }
    assert len(state) == len(read_pdparams(FILES["rec"])) - 16  # 2 layers, 2 directions, 4 tensors
    write_pdparams(state, tmp_path / "a.pdparams")
    assert bundle.from_checkpoint(SPECS["rec"], tmp_path / "a.pdparams").sha256() == opened["rec"].sha256()


def test_lstm_tensors_that_differ_under_their_two_names_are_refused(tmp_path):
    state = read_pdparams(FILES["rec"])
    state["neck.encoder.lstm.weight_hh_l1_reverse"] += 1
    write_pdparams(state, tmp_path / "a.pdparams")
    with pytest.raises(CheckpointError, match=r"one tensor and hold different numbers") as caught:
        bundle.from_checkpoint(SPECS["rec"], tmp_path / "a.pdparams")
    assert "weight_hh_l1_reverse" in str(caught.value) and "1.cell_bw.weight_hh" in str(caught.value)


def test_names_that_only_look_like_an_lstms_get_no_twin():
    state = {"neck.encoder.lstm.extra": np.zeros(1), "neck.encoder.lstm.0.cell_fw.a.b": np.zeros(1)}
    assert set(bundle.complete_lstm_names(state)) == set(state)


def test_a_head_of_another_dictionary_is_named_before_anything_else(tmp_path):
    fewer = ModelSpec("rec", "rec", REC, ("", "a", "b"), InputSpec(32, 320))
    with pytest.raises(
        CheckpointError, match=r"head has 97 classes, but dictionary \+ space \+ blank gives 3"
    ):
        bundle.from_checkpoint(fewer, FILES["rec"])


def test_a_checkpoint_of_another_net_lists_what_does_not_fit():
    with pytest.raises(CheckpointError, match=r"32 unexpected: .*; 188 of another shape"):
        bundle.from_checkpoint(ModelSpec("x", "cls", CLS, ("",) * 97, InputSpec(48, 192)), FILES["rec"])


CUT = {
    "cuts": {
        "backbone.blocks.1.expand_conv.conv": {"out": list(range(0, 24, 2))},
        "backbone.blocks.1.expand_conv.bn": {"out": list(range(0, 24, 2))},
        "backbone.blocks.1.bottleneck_conv.conv": {"out": list(range(0, 24, 2))},
        "backbone.blocks.1.bottleneck_conv.bn": {"out": list(range(0, 24, 2))},
        "backbone.blocks.1.linear_conv.conv": {"in": list(range(0, 24, 2))},
    }
}


def pruned(opened) -> bundle.Bundle:
    from slim.arch.cuts import apply_cuts

    model = opened["cls"].clone()
    apply_cuts(model.net, CUT["cuts"])
    model.cuts.append(CUT)
    return model


def test_a_pruned_model_is_reopened_by_replaying_its_plan(opened, tmp_path):
    model = pruned(opened)
    save(model, tmp_path / "p1")
    again = bundle.from_artifact(tmp_path / "p1")
    assert again.cuts == [CUT] and opened["cls"].cuts == []
    assert again.net.backbone.blocks[1].expand_conv.conv.weight.shape[0] == 12
    assert again.run(image("cls")).tobytes() == model.run(image("cls")).tobytes()
    assert model.clone().sha256() == model.sha256()


def test_a_plan_laid_beside_a_model_is_not_applied(opened, tmp_path):
    save(opened["cls"], tmp_path / "p1")
    (tmp_path / "p1/plan.json").write_text(json.dumps({"plans": [CUT]}))
    assert bundle.from_artifact(tmp_path / "p1").cuts == []


@pytest.mark.parametrize(
    "plan", [{}, {"plans": None}, {"plans": [{}]}, {"plans": [3]}, {"plans": [{"cuts": []}]}]
)
def test_damaged_plans_are_clear_errors(opened, tmp_path, plan):
    save(pruned(opened), tmp_path / "p1")
    (tmp_path / "p1/plan.json").write_text(json.dumps(plan))
    reseal(tmp_path / "p1")
    with pytest.raises(ArtifactError, match="plan.json: is not a list of plans"):
        bundle.from_artifact(tmp_path / "p1")


def test_altered_weights_and_a_lost_plan_are_refused(opened, tmp_path):
    save(pruned(opened), tmp_path / "p1")
    (tmp_path / "p1/plan.json").unlink()
    with pytest.raises(ArtifactError, match=r"plan.json is missing"):
        bundle.from_artifact(tmp_path / "p1")
    reseal(tmp_path / "p1")
    with pytest.raises(CheckpointError, match=r"expand_conv.conv.weight \[12, .*instead of \[24,"):
        bundle.from_artifact(tmp_path / "p1")


def test_a_folder_of_another_stage_has_no_model(tmp_path):
    with artifact.writing(tmp_path / "e1") as tmp:
        (tmp / "model.arm.nb").write_bytes(b"x")
        artifact.seal(tmp, "export", recipe={}, parent="", seed=0)
    with pytest.raises(ArtifactError, match=r"lists no model.pdparams"):
        bundle.from_artifact(tmp_path / "e1")


def test_a_quantized_model_needs_the_one_who_can_restore_it(opened, tmp_path):
    model = opened["cls"].clone()
    model.scheme = {"bits": 8}
    save(model, tmp_path / "q1")
    with pytest.raises(ArtifactError, match="quantized model"):
        bundle.from_artifact(tmp_path / "q1")
    seen = []
    again = bundle.from_artifact(tmp_path / "q1", restore=lambda net, scheme: seen.append(scheme) or net)
    assert seen == [{"bits": 8}] and again.scheme == {"bits": 8}


@pytest.mark.parametrize(
    "arch",
    [
        {**CLS, "Backbone": ["MobileNetV3"]},
        {**CLS, "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": [0.35]}},
        {**CLS, "Backbone": {"name": "Layers", "layers": [["ConvBN"]]}},
        {**CLS, "Backbone": {"name": "Layers", "layers": [{"ConvBN": {"out_channels": -4}}]}},
        {**CLS, "Head": {"name": "ClsHead", "depth": 3}},
    ],
)
def test_a_spec_that_describes_no_net_is_one_line(opened, tmp_path, arch):
    save(opened["cls"], tmp_path / "m")
    spec = json.loads((tmp_path / "m" / "spec.json").read_text())
    (tmp_path / "m" / "spec.json").write_text(json.dumps({**spec, "arch": arch}))
    reseal(tmp_path / "m")
    with pytest.raises(SlimError) as caught:
        bundle.from_artifact(tmp_path / "m")
    assert isinstance(caught.value, (ArtifactError, UnsupportedModel)) and "\n" not in str(caught.value)
