"""The device's command lines."""
