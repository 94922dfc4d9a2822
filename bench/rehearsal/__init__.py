"""A rehearsal with weight files of the published sizes: written, installed, loaded and served on this machine's CPU."""
