"""Single rules: device arithmetic, pooling, interpolation, convs of all kinds, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from export.nb import device_math
from export.nb.executor import NbRuntime
from export.nb.format import KERNEL_ATTR, Attr, AttrType, Block, NbModel, Op, Program
from export.nb.ops_conv import exact_parts, product
from slim.errors import UnsupportedModel

RNG = np.random.default_rng(5)


def attr(value):
    if isinstance(value, bool):
        return Attr(AttrType.BOOLEAN, value)
    if isinstance(value, int):
        return Attr(AttrType.INT, value)
    if isinstance(value, str):
        return Attr(AttrType.STRING, value)
    if isinstance(value, float):
        return Attr(AttrType.FLOAT, value)
    return Attr(AttrType.FLOATS if isinstance(value[0], float) else AttrType.INTS, tuple(value))


def run_op(kind, x, *, inputs=None, params=None, slots=("X", "Out"), kernel=None, **attrs):
    """One op between feed and fetch."""
    marks = {name: attr(value) for name, value in attrs.items()}
    marks[KERNEL_ATTR] = attr(kernel or f"{kind}/def/4/1/1")
    op = Op(kind, {slots[0]: ("x",), **(inputs or {})}, {slots[1]: ("y",)}, marks)
    feed = Op("feed", {"X": ("feed",)}, {"Out": ("x",)}, {KERNEL_ATTR: attr("feed/def/1/4/2")})
    fetch = Op("fetch", {"X": ("y",)}, {"Out": ("fetch",)}, {KERNEL_ATTR: attr("fetch/def/1/4/2")})
    model = NbModel("v2.13-rc", Program([Block(ops=[feed, op, fetch])]), params or {})
    return NbRuntime(model).run(x)


def test_exp_is_close_to_the_true_one():
    x = np.linspace(-80, 80, 20001, dtype=np.float32)
    true = np.exp(x.astype(np.float64))
    # Relative; float32 has 6e-8, the polynomial adds its own part.
    assert np.abs(device_math.exp(x) / true - 1).max() < 3e-7
    assert np.isfinite(device_math.exp(np.array([1e9, -1e9], np.float32))).all()


def test_reciprocal_estimates_are_those_of_the_instruction():
    # FRECPE of 1.0 is 0.998046875; the step is (2 - b * e) * e.
    one = device_math.reciprocal(np.array([1.0], np.float32))[0]
    e = np.float32(0.998046875)
    assert one == (np.float32(2) - e) * e
    b = RNG.uniform(0.01, 1000, 10000).astype(np.float32)
    error = np.abs(device_math.reciprocal(b) * b.astype(np.float64) - 1)
    assert 5e-6 < error.max() < 1.6e-5
    assert device_math.reciprocal(-b).tolist() == (-device_math.reciprocal(b)).tolist()


def test_rounding_is_half_away_and_clamped():
    x = np.array([0.5, -0.5, 2.5, -2.5, 0.49999997, 126.5, 127.6, -128.0, 1e30, -np.inf], np.float32)
    assert device_math.to_int8(x).tolist() == [1, -1, 3, -3, 0, 127, 127, -127, 127, -127]
    below = np.nextafter((np.arange(126) + 0.5).astype(np.float32), np.float32(0))
    assert np.array_equal(device_math.to_int8(below), np.arange(126))
    assert np.array_equal(device_math.to_int8((np.arange(126) + 0.5).astype(np.float32)), np.arange(126) + 1)


def test_long_sums_are_cut_and_stay_exact():
    weight = np.full((2, 5000), 127, np.float32)
    columns = np.full((1, 5000, 3), 127, np.float32)
    parts = exact_parts(weight)
    assert len(parts) > 1 and parts[-1].stop == 5000
    assert np.array_equal(product(weight, columns, parts), np.full((1, 2, 3), 5000 * 127 * 127))
    # float32 holds multiples of 8 there, so that the device's conversion of its int32 rounds this one.
    columns[:, -1] = 0
    columns[:, -2] = 121
    exact = 4998 * 127 * 127 + 121 * 127
    assert np.float32(exact) != exact
    assert product(weight, columns, parts).dtype == np.float32
    assert np.array_equal(product(weight, columns, parts), np.full((1, 2, 3), exact, np.float32))
    assert exact_parts(weight[:, :1000]) == [slice(0, 1000)]


@pytest.mark.parametrize("alias", ["fp32_out", "int8_out"])
def test_an_int8_conv_with_long_sums_equals_integers(alias):
    """3 x 3 x 600 products of +-127: sums of 87 million do not fit the 24 bits of one float32 sum."""
    x = (RNG.integers(0, 2, (1, 600, 5, 6)) * 254 - 127).astype(np.float32)
    w = np.where(RNG.random((4, 600, 3, 3)) < 0.9, 127, -127).astype(np.int8)
    bias = np.array([0.1, -0.2, 0.3, 0.0], np.float32)
    y = run_op(
        "conv2d", x, slots=("Input", "Output"), inputs={"Filter": ("w",), "Bias": ("b",)},
        params={"w": w, "b": bias}, kernel=f"conv2d/{alias}/4/2/1", groups=1, strides=(1, 1), paddings=(1, 1),
        dilations=(1, 1), Input0_scale=(0.01,), Filter0_scale=(1e-3, 2e-3, 1e-3, 1e-3), Output0_scale=(0.5,),
    )  # fmt: skip
    sums = loop_conv(x, w.astype(np.float64), (1, 1), (1, 1, 1, 1), 1, 1)
    scale = np.array([1e-3, 2e-3, 1e-3, 1e-3], np.float32) * np.float32(0.01)
    if alias == "int8_out":
        scale, bias = scale / np.float32(0.5), bias / np.float32(0.5)
    sums = sums.astype(np.float32).astype(np.float64)  # the device converts its int32 before it scales
    wanted = (sums * scale[:, None, None].astype(np.float64) + bias[:, None, None]).astype(np.float32)
    if alias == "int8_out":
        wanted = np.clip(np.trunc(wanted + np.copysign(0.5, wanted)), -127, 127)
    assert np.array_equal(y, wanted)


@pytest.mark.parametrize("alias", ["fp32out", "int8out"])
def test_an_int8_fc_has_a_scale_per_column(alias):
    x = RNG.integers(-127, 128, (2, 1, 3, 8)).astype(np.float32)
    w = RNG.integers(-127, 128, (8, 2)).astype(np.int8)
    y = run_op(
        "fc", x, slots=("Input", "Out"), inputs={"W": ("w",)}, params={"w": w}, kernel=f"fc/{alias}/4/2/1",
        in_num_col_dims=1, op_type="matmul_v2", Input0_scale=(0.02,), W0_scale=(0.01, 0.03),
        Out0_scale=(0.2,),
    )  # fmt: skip
    scale = np.array([0.01, 0.03], np.float32) * np.float32(0.02)
    if alias == "fp32out":
        wanted = (x.astype(np.int64) @ w.astype(np.int64)).astype(np.float32) * scale
    else:
        real = (x.astype(np.int64) @ w.astype(np.int64)).astype(np.float32) * (scale / np.float32(0.2))
        wanted = np.clip(np.trunc(real + np.copysign(0.5, real)), -127, 127)
    assert y.shape == (2, 1, 3, 2) and np.array_equal(y, wanted)


def loop_conv(x, w, stride, pad, dilation, groups):
    n, c, h, width = x.shape
    out, per, kh, kw = w.shape
    padded = np.zeros((n, c, h + pad[0] + pad[1], width + pad[2] + pad[3]))
    padded[:, :, pad[0] : pad[0] + h, pad[2] : pad[2] + width] = x
    rows = (padded.shape[2] - dilation * (kh - 1) - 1) // stride[0] + 1
    cols = (padded.shape[3] - dilation * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, out, rows, cols))
    for o in range(out):
        g = o // (out // groups)
        for i in range(kh):
            for j in range(kw):
                top, left = i * dilation, j * dilation
                window = padded[
                    :, g * per : (g + 1) * per,
                    top : top + stride[0] * (rows - 1) + 1 : stride[0],
                    left : left + stride[1] * (cols - 1) + 1 : stride[1],
                ]  # fmt: skip
                y[:, o] += (window * w[o, :, i, j][None, :, None, None]).sum(1)
    return y


@pytest.mark.parametrize(
    ("channels", "out", "kernel", "groups", "stride", "pad", "dilation"),
    [
        (4, 6, 3, 1, (1, 1), (1, 1, 1, 1), 1),
        (4, 6, 3, 2, (2, 1), (0, 1, 2, 0), 1),
        (4, 4, 5, 4, (2, 2), (2, 2, 2, 2), 1),
        (4, 4, 3, 4, (1, 2), (1, 1, 1, 1), 1),
        (3, 3, 3, 3, (1, 1), (2, 2, 2, 2), 2),
        (3, 5, 3, 1, (1, 1), (2, 2, 2, 2), 2),
    ],
)
def test_float_convs_equal_loops(channels, out, kernel, groups, stride, pad, dilation):
    x = RNG.normal(size=(3, channels, 9, 37)).astype(np.float32)
    w = RNG.normal(size=(out, channels // groups, kernel, kernel)).astype(np.float32)
    y = run_op(
        "conv2d", x, slots=("Input", "Output"), inputs={"Filter": ("w",)}, params={"w": w}, groups=groups,
        strides=stride, paddings=pad, dilations=(dilation, dilation),
    )  # fmt: skip
    # float32 sums of up to 36 normal products.
    assert np.abs(y - loop_conv(x, w, stride, pad, dilation, groups)).max() < 2e-5


def test_same_padding_is_computed_from_the_size():
    x, w = np.ones((1, 1, 5, 6), np.float32), np.ones((1, 1, 3, 3), np.float32)
    y = run_op(
        "conv2d", x, slots=("Input", "Output"), inputs={"Filter": ("w",)}, params={"w": w}, groups=1,
        strides=(2, 2), paddings=(0, 0), dilations=(1, 1), padding_algorithm="SAME",
    )  # fmt: skip
    assert y[0, 0].tolist() == [[6, 6, 4], [9, 9, 6], [6, 6, 4]]


def test_a_transposed_conv_spreads_its_input():
    x, w = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32), RNG.normal(size=(3, 2, 3, 3)).astype(np.float32)
    y = run_op(
        "conv2d_transpose", x, slots=("Input", "Output"), inputs={"Filter": ("w",)}, params={"w": w},
        groups=1, strides=(2, 2), paddings=(1, 1), dilations=(1, 1),
    )  # fmt: skip
    full = np.zeros((2, 2, 9, 11))
    for i in range(4):
        for j in range(5):
            full[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("nc,cohw->nohw", x[:, :, i, j], w)
    assert np.abs(y - full[:, :, 1:-1, 1:-1]).max() < 1e-5


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("ceil", [True, False])
@pytest.mark.parametrize(("size", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_pooling_equals_loops(kind, exclusive, ceil, size, stride, pad):
    x = RNG.normal(size=(1, 2, 7, 10)).astype(np.float32)
    y = run_op(
        "pool2d", x, pooling_type=kind, ksize=(size, size), strides=(stride, stride), paddings=(pad, pad),
        exclusive=exclusive, ceil_mode=ceil, global_pooling=False, adaptive=False,
    )  # fmt: skip
    for r in range(y.shape[2]):
        for c in range(y.shape[3]):
            top, left = r * stride - pad, c * stride - pad
            bottom, right = min(top + size, 7 + pad), min(left + size, 10 + pad)
            window = x[0, :, max(top, 0) : min(bottom, 7), max(left, 0) : min(right, 10)]
            pixels = window[0].size if exclusive else (bottom - top) * (right - left)
            wanted = window.max((1, 2)) if kind == "max" else window.sum((1, 2)) / pixels
            assert np.abs(y[0, :, r, c] - wanted).max() < 1e-5


def test_nearest_takes_the_pixel_before():
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    doubled = run_op("nearest_interp_v2", x, scale=(2.0, 2.0), out_h=-1, out_w=-1, align_corners=False)
    assert np.array_equal(doubled, x.repeat(2, axis=2).repeat(2, axis=3))
    sized = run_op("nearest_interp_v2", x, scale=(0.0,), out_h=4, out_w=2, align_corners=False)
    assert sized[0, 0].tolist() == [[0, 1], [0, 1], [3, 4], [3, 4]]


def test_an_lstm_equals_plain_steps():
    steps, hidden, size = 7, 5, 6
    x = RNG.normal(size=(1, 1, steps, size)).astype(np.float32)
    shapes = [(4 * hidden, size), (4 * hidden, hidden)] * 2 + [(4 * hidden,)] * 4
    params = {f"p{i}": RNG.normal(0, 0.5, s).astype(np.float32) for i, s in enumerate(shapes)}
    params["zero"] = np.zeros((2, 1, hidden), np.float32)
    kernels = {KERNEL_ATTR: attr("reshape2/def/1/4/2"), "shape": attr((steps, 1, size))}
    lstm = {KERNEL_ATTR: attr("rnn/def/4/1/1"), "mode": attr("LSTM"), "is_bidirec": attr(True)}
    lstm |= {"num_layers": attr(1), "hidden_size": attr(hidden)}
    ends = [{KERNEL_ATTR: attr(f"{kind}/def/1/4/2")} for kind in ("feed", "fetch")]
    weights = tuple(f"p{i}" for i in range(8))
    ops = [
        Op("feed", {"X": ("feed",)}, {"Out": ("x",)}, ends[0]),
        Op("reshape2", {"X": ("x",)}, {"Out": ("t",)}, kernels),
        Op(
            "rnn",
            {"Input": ("t",), "PreState": ("zero", "zero"), "WeightList": weights},
            {"Out": ("y",)},
            lstm,
        ),
        Op("fetch", {"X": ("y",)}, {"Out": ("fetch",)}, ends[1]),
    ]
    y = NbRuntime(NbModel("v", Program([Block(ops=ops)]), params)).run(x)

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    for direction in (0, 1):
        w_ih, w_hh = params[f"p{2 * direction}"], params[f"p{2 * direction + 1}"]
        b_ih, b_hh = params[f"p{4 + 2 * direction}"], params[f"p{5 + 2 * direction}"]
        h = c = np.zeros(hidden)
        for t in range(steps) if direction == 0 else reversed(range(steps)):
            i, f, g, o = np.split(w_ih @ x[0, 0, t] + w_hh @ h + b_ih + b_hh, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            # The device's division is good to 1.2e-5, and errors add up over the steps.
            assert np.abs(y[t, 0, direction * hidden : (direction + 1) * hidden] - h).max() < 1e-4


def test_reshape_keeps_and_infers():
    x = np.zeros((2, 3, 4, 5), np.float32)
    assert run_op("reshape2", x, shape=(0, -1, 5)).shape == (2, 12, 5)
    with pytest.raises(UnsupportedModel, match="keeps an axis"):
        run_op("reshape2", x, shape=(0, 0, 0, 0, 0))


def test_a_batch_that_the_file_fixes_is_run_in_parts():
    x = RNG.normal(size=(4, 2, 3, 1)).astype(np.float32)
    assert np.array_equal(run_op("reshape2", x, shape=(1, 6)), x.reshape(4, 6))
