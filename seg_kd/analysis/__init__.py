"""What trained networks give and cost, and how methods compare."""
