"""What can run an exported model, one file each; see `export.runtimes.base`."""
