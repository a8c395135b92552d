"""Frames of judged parts: kept for a while, and made captures once somebody says what the part was."""
