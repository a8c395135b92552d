"""Parts that do not exist, under a camera that does not exist, with the truth about each."""
