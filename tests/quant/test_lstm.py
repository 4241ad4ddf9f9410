"""LSTM matrices: the net computes with the values of the nb file, bit for bit, and trains through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from export.nb.reader import read_nb
from export.stage import export_nb
from quant import lstm, ptq, rules, wrap
from quant.freeze import save_inference
from quant.scheme import LstmScheme, QuantScheme
from slim.bundle import Bundle
from slim.config import ExportSection, QuantSection
from slim.errors import ArtifactError
from slim.pipeline.exporting import stored_as_planned
from slim.spec import ModelSpec

PATH = "neck.encoder.lstm"
Images = Callable[[ModelSpec, int], np.ndarray]


def quantized(float_bundle: Bundle, images: Images, **keys: object) -> Bundle:
    section = QuantSection(mode="ptq", **keys)  # type: ignore[arg-type]
    scheme = rules.build_scheme(float_bundle.net, section, float_bundle.spec.input.shape)
    scheme = ptq.calibrate(float_bundle.net, scheme, [images(float_bundle.spec, 2)])
    bundle = float_bundle.clone()
    wrap.prepare(bundle.net, scheme)
    wrap.install_clips(bundle.net, scheme)
    return replace(bundle, scheme=wrap.finalize(bundle.net, scheme).to_json())


def used(layer: nn.Layer) -> list[np.ndarray]:
    """The matrices a run of a layer multiplies with, in the runtime's order."""
    seen: list[np.ndarray] = []
    with layer._rounding():
        seen += [w.numpy() for w in layer._all_weights if len(w.shape) == 2]
    return seen


def test_by_hand() -> None:
    """Scale 254 / 127 = 2: 3 / 2 = 1.5 rounds away from zero to 2 steps, 0.9 to none."""
    given = np.array([[254.0, 3.0], [-3.0, 0.9]], np.float32)
    assert lstm.rounded(given).tolist() == [[254.0, 4.0], [-4.0, 0.0]]


def test_rounding_what_is_rounded_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    for weight in rng.standard_normal((2000, 1, 8)).astype(np.float32):
        once = lstm.rounded(weight)
        assert not np.array_equal(once, weight)
        assert np.array_equal(lstm.rounded(once), once)


def test_the_file_holds_what_the_net_computes_with(
    originals: Mapping[str, Bundle], images: Images, tmp_path: Path
) -> None:
    bundle = quantized(originals["rec"], images)
    layer = dict(bundle.net.named_sublayers())[PATH]
    computed = used(layer)
    export_nb(bundle, ExportSection(), tmp_path / "out", save_quantized=save_inference)
    model = read_nb(tmp_path / "out" / "model.arm.nb")
    made = {op.outputs["Out"][0]: op for op in model.ops if op.type == "calib_once"}
    (rnn,) = [op for op in model.ops if op.type == "rnn"]
    shipped = []
    for name in rnn.inputs["WeightList"][:8]:
        scale = np.float32(made[name].attrs["scale"].value)
        shipped.append(model.params[made[name].inputs["Input"][0]].astype(np.float32) * scale)
    assert [a.shape for a in shipped] == [a.shape for a in computed]
    assert all(np.array_equal(a, b) for a, b in zip(shipped, computed, strict=True))
    stored = [w.numpy() for w in layer._all_weights if len(w.shape) == 2]
    assert not any(np.array_equal(a, b) for a, b in zip(shipped, stored, strict=True)), "nothing was rounded"


def test_state_names_and_weights_stay_and_the_output_moves(
    originals: Mapping[str, Bundle], images: Images
) -> None:
    int8, kept = (quantized(originals["rec"], images, lstm_weights=how) for how in ("int8", "float"))
    assert list(int8.state()) == list(kept.state())
    assert int8.sha256() == kept.sha256()
    x = images(int8.spec, 1)
    difference = np.abs(int8.run(x) - kept.run(x)).max()
    # Probabilities: measured 6.8e-3 on the device for int8 matrices; a wrong scale moves them by tenths.
    assert 0 < difference < 0.05
    assert np.array_equal(int8.clone(wrap.restore).run(x), int8.run(x))


def test_the_gradient_passes_straight_through() -> None:
    paddle.seed(0)
    layer, plain = nn.LSTM(3, 4), nn.LSTM(3, 4)
    lstm.attach(layer, LstmScheme("", 8))
    plain.set_state_dict({name: lstm_value(t) for name, t in layer.state_dict().items()})
    x = paddle.randn([2, 5, 3])
    for one in (layer, plain):
        one(x)[0].sum().backward()
    for name, weight in lstm.matrices(layer).items():
        # Equal weights, equal kernel: the same bits.
        assert np.array_equal(weight.grad.numpy(), lstm.matrices(plain)[name].grad.numpy())


def lstm_value(tensor: paddle.Tensor) -> np.ndarray:
    value = tensor.numpy()
    return lstm.rounded(value) if value.ndim == 2 else value


def test_plan_keeps_float_what_int8_would_spoil() -> None:
    paddle.seed(0)
    layer = nn.LSTM(8, 32)
    spoiled = np.random.default_rng(0).standard_normal((128, 32)).astype(np.float32)
    spoiled[0, 0] = 300.0  # a step of 2.4 is more than most weights
    layer.weight_hh_l0.set_value(spoiled)
    assert lstm.plan("a", layer, quantize=True) == LstmScheme("a", 8, ("weight_hh_l0",))
    assert lstm.plan("a", layer, quantize=False) == LstmScheme("a", None)
    lstm.attach(layer, LstmScheme("a", 8, ("weight_hh_l0",)))
    ih, hh = used(layer)
    assert np.array_equal(hh, layer.weight_hh_l0.numpy())
    assert not np.array_equal(ih, layer.weight_ih_l0.numpy())


def test_exclude_keeps_an_lstm_float_and_export_follows(
    originals: Mapping[str, Bundle], images: Images
) -> None:
    bundle = quantized(originals["rec"], images, exclude=("neck.*",))
    assert QuantScheme.from_json(bundle.scheme or {}).lstms == (LstmScheme(PATH, None),)
    assert stored_as_planned(ExportSection(), bundle).lstm_weights == "float"
    assert stored_as_planned(ExportSection(lstm_weights="int8"), bundle).lstm_weights == "int8"


def test_a_layer_that_does_not_round_as_planned_is_seen(
    originals: Mapping[str, Bundle], images: Images
) -> None:
    bundle = quantized(originals["rec"], images)
    scheme = QuantScheme.from_json(bundle.scheme or {})
    assert lstm.misplaced(bundle.net, scheme.lstms) == 0
    dict(bundle.net.named_sublayers())[PATH].__class__ = nn.LSTM
    assert lstm.misplaced(bundle.net, scheme.lstms) == 1


def test_a_scheme_of_another_net_is_refused(originals: Mapping[str, Bundle]) -> None:
    scheme = rules.build_scheme(originals["rec"].net, QuantSection(), originals["rec"].spec.input.shape)
    wrong = replace(scheme, lstms=(LstmScheme("head.lstm"),))
    with pytest.raises(ArtifactError, match=r"an LSTM at 'head.lstm', the net has none"):
        wrap.prepare(originals["rec"].clone().net, wrong)
