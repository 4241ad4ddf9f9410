"""From image to tensor and from the net's output to text, for every runtime the same."""
