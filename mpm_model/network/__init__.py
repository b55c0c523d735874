"""Networks of the paper, and their checkpoints in and out."""
