"""The C++ program of docs/ON_DEVICE.md: quoted as it is, accepted by a compiler, and able to fail.

Paddle-Lite's headers are not here: a stub declares the part of paddle_api.h that the program uses, as in
lite/api/paddle_api.h of v2.13-rc. Its predictor answers each input with the file named by ANSWERS.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from .conftest import Exported

DOCS = Path(__file__).resolve().parents[2] / "docs"
SOURCE = DOCS / "on_device" / "selftest.cc"
STUB = r"""
#pragma once
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>
namespace paddle { namespace lite_api {
enum PowerMode { LITE_POWER_HIGH = 0, LITE_POWER_NO_BIND = 3 };
typedef std::vector<int64_t> shape_t;
struct Tensor {
  void Resize(const shape_t& shape);
  template <typename T> const T* data() const;
  template <typename T> T* mutable_data() const;
  shape_t shape() const;
};
class PaddlePredictor {
 public:
  virtual ~PaddlePredictor() = default;
  virtual std::unique_ptr<Tensor> GetInput(int i) = 0;
  virtual void Run() = 0;
  virtual std::unique_ptr<const Tensor> GetOutput(int i) const = 0;
};
class MobileConfig {
 public:
  void set_model_from_file(const std::string& path);
  void set_threads(int threads);
  void set_power_mode(PowerMode mode);
};
template <typename ConfigT>
std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const ConfigT&);
}}
"""
FAKE = r"""
#include "paddle_api.h"
namespace paddle { namespace lite_api {
static std::vector<float> in, out;
static shape_t given, answered;
static int runs = 0;
static std::string model;
void Tensor::Resize(const shape_t& s) { given = s; size_t n = 1; for (auto d : s) n *= d; in.resize(n); }
template <> float* Tensor::mutable_data<float>() const { return in.data(); }
template <> const float* Tensor::data<float>() const { return out.data(); }
shape_t Tensor::shape() const { return answered; }
void MobileConfig::set_model_from_file(const std::string& p) { model = p; }
void MobileConfig::set_threads(int) {}
void MobileConfig::set_power_mode(PowerMode) {}
struct Fake : PaddlePredictor {
  std::unique_ptr<Tensor> GetInput(int) override { return std::unique_ptr<Tensor>(new Tensor); }
  void Run() override {
    answered = {1, 2};
    out.assign(2, 0.f);
    std::ifstream f(std::string(std::getenv("ANSWERS")) + std::to_string(runs++) + ".f32", std::ios::binary);
    f.read(reinterpret_cast<char*>(out.data()), 8);
  }
  std::unique_ptr<const Tensor> GetOutput(int) const override { return std::unique_ptr<Tensor>(new Tensor); }
};
template <> std::shared_ptr<PaddlePredictor> CreatePaddlePredictor<MobileConfig>(const MobileConfig&) {
  if (!std::ifstream(model)) return nullptr;
  return std::make_shared<Fake>();
}
}}
"""


def compiler() -> str:
    """Fails, not skips, without one: the page says that the program was compiled."""
    found = next((path for name in ("g++", "clang++", "c++") if (path := shutil.which(name))), None)
    assert found is not None, "no C++ compiler on PATH: install g++"
    return found


def test_the_page_quotes_the_program() -> None:
    page = (DOCS / "ON_DEVICE.md").read_text(encoding="utf-8")
    quoted = page.split("```cpp\n")[1].split("```")[0]
    assert quoted == SOURCE.read_text(encoding="utf-8")
    assert "nothing in this project was run on a phone" in page


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("on device")
    (folder / "paddle_api.h").write_text(STUB, encoding="utf-8")
    (folder / "fake.cc").write_text(FAKE, encoding="utf-8")
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
    files = [str(folder / "fake.cc"), str(SOURCE)]
    done = subprocess.run(
        [compiler(), *flags, *files, "-o", str(folder / "selftest")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "selftest"


def run(program: Path, folder: Path, answers: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [str(program), str(folder)],
        env={"ANSWERS": answers}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines() + done.stderr.splitlines()


def test_right_answers_pass(program: Path, exported_cls: Exported) -> None:
    code, lines = run(program, exported_cls.folder, str(exported_cls.folder / "selftest" / "output"))
    assert code == 0
    assert lines == [f"input{i}.f32 max abs 0 <= 0.0001: pass" for i in range(2)]


@pytest.mark.parametrize(("error", "shown"), [(2e-4, "max abs 0.0002"), (np.nan, "max abs nan")])
def test_a_wrong_answer_fails(
    program: Path, exported_cls: Exported, tmp_path: Path, error: float, shown: str
) -> None:
    for i in range(2):
        y = np.fromfile(exported_cls.folder / "selftest" / f"output{i}.f32", "<f4")
        y[1] += np.float32(error if i else 0)
        y.tofile(tmp_path / f"{i}.f32")
    code, lines = run(program, exported_cls.folder, f"{tmp_path}/")
    assert code == 1 and "pass" in lines[0] and "FAIL" in lines[1]
    assert shown in lines[1] or error > 0 and "max abs 0.000199" in lines[1]


def test_what_cannot_be_read(program: Path, exported_cls: Exported, tmp_path: Path) -> None:
    answers = str(exported_cls.folder / "selftest" / "output")
    assert run(program, tmp_path, answers)[0] == 2
    folder = exported_cls.copy(tmp_path / "copy")
    (folder / "selftest" / "input1.f32").write_bytes(b"\0" * 8)
    code, lines = run(program, folder, answers)
    assert code == 1 and "pass" in lines[0] and "FAIL" in lines[1]
    (folder / "model.arm.nb").unlink()
    assert run(program, folder, answers)[0] == 2
