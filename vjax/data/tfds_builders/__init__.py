"""Builders for TensorFlow Datasets. Nothing else in vjax imports it or Beam when it is imported."""
