"""A view of all rigs at a broker."""
