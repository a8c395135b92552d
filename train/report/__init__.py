"""A run's report: one HTML file that shows how often a model is right, and where it is wrong."""
