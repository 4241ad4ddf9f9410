"""Structured pruning: groups of tied channels, criteria, sensitivity, plans."""
