"""The ``.nb`` files of Paddle-Lite: format, executor, compaction, inspection, x86 witness."""
