"""Frame table, decode, motion, sampling, windows, frame store, sample clips. No jax here."""
