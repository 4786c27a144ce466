"""Loss, optimiser, step and loop."""
