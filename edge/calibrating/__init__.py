"""From good parts to a threshold with a promise: what `edge-calibrate` does."""
