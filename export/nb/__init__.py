"""The .nb file of Paddle-Lite: read, written, shrunk, executed."""
