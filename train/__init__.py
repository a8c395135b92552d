"""The workstation side: from captures of good parts to a checkpoint. May import edge, never export."""
