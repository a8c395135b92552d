"""The demo: a broker, a simulated rig, the real daemon, and a subscriber that knows the truth."""
