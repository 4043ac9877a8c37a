"""The frozen teacher: its network, its maps, and their cache."""
