"""`facelight doctor`: what an operator would look at first, each with its remedy."""
