"""From fragments to batches: items, the batch plan, collation, the Grain pipeline."""
