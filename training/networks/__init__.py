"""Networks before training: deliberate initial weights, and the parts of them that stay fixed."""
