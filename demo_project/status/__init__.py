"""Live figures for the staff."""
