"""The daemon's threads: one owner for each thing, and bounded hand-over between them."""
