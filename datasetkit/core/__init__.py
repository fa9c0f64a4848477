"""The standard library only: the nouns, the pure rules and the one place that changes files."""
