"""The procedural world: clips of shapes that act before textured walls; each knows its truth."""
