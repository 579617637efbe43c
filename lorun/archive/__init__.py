"""A result set as one file that can be passed on, checked anywhere, and read without this suite."""
