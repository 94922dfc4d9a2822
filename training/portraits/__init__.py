"""Training data of the demo portraits: faces, prompts, and the pictures that these come to."""
