"""Compress trained PP-OCR models for phones and prove the result on a PC."""

__version__ = "0.1.0"

# Before anything imports paddle: its C library breaks a zlib that is loaded later (`import paddle; import
# rapidfuzz` crashes or hangs).
import zlib  # noqa: F401
