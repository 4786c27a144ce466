"""Evals: what was answered, how sure that is, and the pages that say so; jax in run.py alone."""
