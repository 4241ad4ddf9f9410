"""The command line: parse, call the library, print. The only place that prints or exits."""

from slim.cli.main import main

__all__ = ["main"]
