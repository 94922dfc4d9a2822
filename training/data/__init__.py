"""Training data: photos, synthetic subjects, lit scenes, and the batches sampled from them."""
