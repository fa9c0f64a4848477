"""Where a stage's work runs; what it does is the stage's."""
