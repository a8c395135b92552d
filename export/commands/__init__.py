"""Command lines of the workstation: export."""
