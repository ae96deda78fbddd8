"""Pictures in and out: what Pillow, NumPy and torch hold, and what a picture file says beside its pixels."""
