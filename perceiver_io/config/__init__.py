"""Config files, and the objects that are constructed from their sections."""
