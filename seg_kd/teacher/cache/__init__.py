"""The teacher's maps of each training image, computed once."""
