"""Flax NNX modules: vision tower, projector, decoder, VideoLLM and its adapters."""
