"""From a net to a checked Paddle-Lite file: programs, opt, runtimes, checks."""
