"""Models and exported files that several tests read and none changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from export import fixes, opt, stage
from export.compare import blocks
from export.program import save_program
from slim.arch import build_net
from slim.bundle import Bundle, from_checkpoint
from slim.spec import InputSpec, ModelSpec

ZOO = Path(__file__).resolve().parents[2] / "slim" / "zoo"
DICTS = ZOO.parent / "dicts"


def backbone(scale: float, **more: Any) -> dict[str, Any]:
    return {"name": "MobileNetV3", "scale": scale, "model_name": "small", **more}


CLS = ModelSpec(
    "cls",
    "cls",
    {"model_type": "cls", "Backbone": backbone(0.35), "Neck": None, "Head": {"name": "ClsHead"}},
    ("0", "180"),
    InputSpec(48, 192),
)
REC = ModelSpec(
    "rec",
    "rec",
    {
        "model_type": "rec",
        "Backbone": backbone(0.5, small_stride=[1, 2, 2, 2]),
        "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 48},
        "Head": {"name": "CTCHead"},
    },
    ("", *(DICTS / "en_dict.txt").read_text(encoding="utf-8").split("\n")[:-1], " "),
    InputSpec(32, 320, dynamic_width=True),
)
DET = ModelSpec(
    "det",
    "det",
    {
        "model_type": "det",
        "Backbone": {"name": "MobileNetV3", "scale": 0.5, "model_name": "large", "disable_se": True},
        "Neck": {"name": "DBFPN", "out_channels": 96},
        "Head": {"name": "DBHead", "k": 50},
    },
    (),
    InputSpec(
        640,
        640,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        dynamic_width=True,
        dynamic_height=True,
    ),
)


@dataclass(frozen=True)
class Options:
    """What export and check read of a recipe."""

    targets: tuple[str, ...] = ("arm", "x86")
    timeout: float = 60.0
    dynamic_batch: bool = True
    compact: bool = True
    lstm_weights: str = "auto"
    images: int = 12
    simulation_images: int = 6
    witness_images: int = 4
    max_drop: float = 1.0
    max_abs: float = 1e-4
    min_agreement: float = 0.99
    widths: tuple[int, ...] = ()
    min_flops_cut: float | None = None
    max_nb_ratio: float | None = None
    max_inference_mb: float | None = None


@dataclass
class Exported:
    """A bundle and the folder `export_nb` wrote of it."""

    bundle: Bundle
    folder: Path
    result: stage.ExportResult
    copies: list[Path] = field(default_factory=list)

    def copy(self, dest: Path) -> Path:
        """The folder again, to be damaged."""
        shutil.copytree(self.folder, dest)
        return dest


@pytest.fixture(scope="session")
def cls_bundle() -> Bundle:
    return from_checkpoint(CLS, ZOO / "ch_ppocr_mobile_v2.0_cls.pdparams")


@pytest.fixture(scope="session")
def rec_bundle() -> Bundle:
    return from_checkpoint(REC, ZOO / "en_number_synthetic_crnn.pdparams")


@pytest.fixture(scope="session")
def det_bundle() -> Bundle:
    paddle.seed(1)
    net = build_net(DET.arch, 0)
    net.eval()
    return Bundle(DET, net, source="random")


@pytest.fixture(scope="session")
def int8_cls(cls_bundle: Bundle) -> Bundle:
    """The classifier, calibrated on blocks: a stand-in for a quantized model."""
    from quant import ptq, rules, wrap
    from slim.config import QuantSection

    section = QuantSection(mode="ptq")
    scheme = rules.build_scheme(cls_bundle.net, section, CLS.input.shape)
    scheme = ptq.calibrate(cls_bundle.net, scheme, [blocks((4, 3, 48, 192), 3)])
    copy = cls_bundle.clone()
    wrap.prepare(copy.net, scheme)
    wrap.install_clips(copy.net, scheme)
    return replace(copy, scheme=wrap.finalize(copy.net, scheme).to_json())


@pytest.fixture(scope="session")
def exported_cls(cls_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    out = tmp_path_factory.mktemp("export") / "cls float"
    return Exported(cls_bundle, out, stage.export_nb(cls_bundle, Options(), out))


@pytest.fixture(scope="session")
def exported_rec(rec_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    out = tmp_path_factory.mktemp("export") / "rec"
    return Exported(rec_bundle, out, stage.export_nb(rec_bundle, Options(), out))


@pytest.fixture(scope="session")
def exported_int8(int8_cls: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    from quant.freeze import save_inference

    out = tmp_path_factory.mktemp("export") / "cls int8"
    return Exported(int8_cls, out, stage.export_nb(int8_cls, Options(), out, save_quantized=save_inference))


@pytest.fixture
def program(tmp_path: Path) -> Callable[[nn.Layer, list[int | None]], Path]:
    """Save a small net as an inference program and give its prefix."""

    def save(net: nn.Layer, shape: list[int | None]) -> Path:
        net.eval()
        spec = [paddle.static.InputSpec(shape, "float32", "x")]
        traced = paddle.jit.to_static(net, input_spec=spec, full_graph=True)
        paddle.jit.save(traced, str(tmp_path / "program"))
        return tmp_path / "program"

    return save


@pytest.fixture
def to_x86(tmp_path: Path) -> Callable[..., Path]:
    """Apply some fixes to a program and convert it for x86."""

    def convert(prefix: Path, *passes: fixes.Pass) -> Path:
        name = "-".join(step.__name__ for step in passes) or "plain"
        fixes.fix_program(prefix, tmp_path / name, tuple(passes))
        return opt.run_opt(tmp_path / name, "x86", tmp_path / f"{name}.nb", timeout=60)

    return convert


@pytest.fixture(scope="session")
def cls_program(cls_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("program") / "inference"
    save_program(cls_bundle, prefix)
    return prefix


@pytest.fixture(scope="session")
def rec_program(rec_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("program") / "inference"
    save_program(rec_bundle, prefix)
    return prefix


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32)
