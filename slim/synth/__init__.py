"""Rendered text lines and pages with known labels: seeded, byte for byte reproducible data sets."""

from slim.synth.sets import GENERATOR_VERSION, synthesize

__all__ = ["GENERATOR_VERSION", "synthesize"]
