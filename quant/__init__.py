"""Int8 quantization: one scheme for training, calibration and export."""
