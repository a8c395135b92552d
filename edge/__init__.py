"""The device side: from a depth camera's frame to a verdict on the broker. Imports no torch."""
