"""A report as tables for a terminal and Markdown (`tables`), and as one HTML page (`page`)."""

from slim.report.tables import (
    HEADERS,
    LAYER_HEADERS,
    RUN_STAGES,
    WORST_LAYERS,
    check_line,
    kilo,
    layer_rows,
    markdown_table,
    report_markdown,
    report_text,
    stage_rows,
    text_table,
)

__all__ = [
    "HEADERS",
    "LAYER_HEADERS",
    "RUN_STAGES",
    "WORST_LAYERS",
    "check_line",
    "kilo",
    "layer_rows",
    "markdown_table",
    "report_markdown",
    "report_text",
    "stage_rows",
    "text_table",
]
