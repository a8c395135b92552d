"""Command lines of the workstation."""
