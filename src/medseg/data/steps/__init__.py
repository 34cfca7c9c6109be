"""Steps of preprocessing: frozen dataclasses that crop (``box``) or change a uint8 image (H, W, C)."""
