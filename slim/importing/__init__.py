"""Trainable weights from a deployed model: its graph is matched with our net's, op by op, and run again."""
