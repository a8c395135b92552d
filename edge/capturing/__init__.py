"""Collecting captures on a rig: what is worth keeping, and keeping it."""
