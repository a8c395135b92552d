"""The way from a checkpoint to a bundle that the device runs. May import train and edge."""
