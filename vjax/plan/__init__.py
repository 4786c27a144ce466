"""What a step costs before it runs: machines that are not there, FLOPs, bytes, collectives."""
