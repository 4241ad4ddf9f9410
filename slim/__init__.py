"""Compress trained PP-OCR models for phones and prove the result on a PC."""

__version__ = "0.1.0"
