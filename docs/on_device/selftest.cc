// Runs the self-test of an exported folder on a device: model.arm.nb against selftest/*.f32.
// Usage: selftest FOLDER. Exit code 0: every output within the tolerance, 1: not, 2: cannot read.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "paddle_api.h"

using paddle::lite_api::CreatePaddlePredictor;
using paddle::lite_api::MobileConfig;
using paddle::lite_api::PaddlePredictor;

struct Raw {
  std::string file;
  std::vector<int64_t> shape;

  int64_t count() const {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1},
                           [](int64_t a, int64_t b) { return a * b; });
  }
};

// "FILE AXES EXTENT...", as in a line of selftest.txt.
bool ReadRaw(std::istream& in, Raw* raw) {
  size_t axes = 0;
  if (!(in >> raw->file >> axes) || axes == 0 || axes > 8) return false;
  raw->shape.resize(axes);
  for (auto& n : raw->shape) {
    if (!(in >> n) || n <= 0) return false;
  }
  return true;
}

// Little-endian float32, as every Android and iOS device holds it. False unless the size is exact.
bool ReadFloats(const std::string& path, float* to, int64_t count) {
  std::ifstream in(path, std::ios::binary);
  const std::streamsize bytes = count * static_cast<std::streamsize>(sizeof(float));
  return in.read(reinterpret_cast<char*>(to), bytes) && in.peek() == std::ifstream::traits_type::eof();
}

// Largest difference of one case; NaN when a file is unreadable, a shape differs or a value is no number.
float RunCase(PaddlePredictor* predictor, const std::string& folder, const Raw& input, const Raw& output) {
  auto x = predictor->GetInput(0);
  x->Resize(input.shape);
  if (!ReadFloats(folder + input.file, x->mutable_data<float>(), input.count())) return NAN;
  predictor->Run();
  auto y = predictor->GetOutput(0);
  std::vector<float> expected(output.count());
  if (!ReadFloats(folder + output.file, expected.data(), output.count())) return NAN;
  if (y->shape() != output.shape) return NAN;
  const float* found = y->data<float>();
  float worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const float difference = std::fabs(found[i] - expected[i]);
    if (!(difference <= INFINITY)) return NAN;
    worst = std::max(worst, difference);
  }
  return worst;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const std::string root = std::string(argv[1]) + "/", folder = root + "selftest/";
  std::ifstream list(folder + "selftest.txt");
  std::string nb;
  float tolerance = 0;
  int cases = 0;
  if (!(list >> nb >> tolerance >> cases) || cases < 1) {
    std::fprintf(stderr, "%sselftest.txt: cannot be read\n", folder.c_str());
    return 2;
  }
  MobileConfig config;
  config.set_model_from_file(root + nb);
  config.set_threads(1);
  config.set_power_mode(paddle::lite_api::LITE_POWER_NO_BIND);
  std::shared_ptr<PaddlePredictor> predictor = CreatePaddlePredictor<MobileConfig>(config);
  if (predictor == nullptr) {
    std::fprintf(stderr, "%s%s: cannot be loaded\n", root.c_str(), nb.c_str());
    return 2;
  }
  bool passed = true;
  for (int i = 0; i < cases; ++i) {
    Raw input, output;
    if (!ReadRaw(list, &input) || !ReadRaw(list, &output)) {
      std::fprintf(stderr, "%sselftest.txt: case %d cannot be read\n", folder.c_str(), i);
      return 2;
    }
    const float worst = RunCase(predictor.get(), folder, input, output);
    const bool ok = worst <= tolerance;  // false for NaN
    std::printf("%s max abs %g <= %g: %s\n", input.file.c_str(), worst, tolerance, ok ? "pass" : "FAIL");
    passed = passed && ok;
  }
  return passed ? 0 : 1;
}
