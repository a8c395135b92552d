"""All categories of a data set × seeds × methods × numbers of good parts, and the table that comes of it."""
