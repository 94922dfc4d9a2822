"""Weight files: what a lock file pins, checked and handed to the loaders by role."""
