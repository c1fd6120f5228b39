"""Composition root: builds the server out of its rooms."""
