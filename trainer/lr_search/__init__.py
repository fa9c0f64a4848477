"""The search of a learning rate: probes by an optimizer that estimates it, and a short sweep."""
