"""Training of the UNet and the text encoders of pulid-lightning's demo weights."""
