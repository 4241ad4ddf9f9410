"""Images with their texts: label files, LMDB, training batches, augmentation."""
