"""What every gradient descent runs through: workers, checkpoints, the run's claim on its folder."""
