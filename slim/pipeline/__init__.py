"""The road from weights to a checked .nb: the only package that knows prune, quant and export."""
