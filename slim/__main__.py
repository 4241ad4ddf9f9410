"""``python -m slim``: the same command line as ``slim``."""

from __future__ import annotations

from slim.cli import main

if __name__ == "__main__":
    main()
