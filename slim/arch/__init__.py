"""The nets of PP-OCR v2.0: backbones, necks, heads, how to cut them and what they cost."""

from slim.arch.build import Net, build_net

__all__ = ["Net", "build_net"]
