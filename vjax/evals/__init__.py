"""Evals: what was answered, how sure that is, and the pages that say so. No model code, no jax."""
