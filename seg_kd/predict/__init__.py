"""Labels and pictures of images, folders and videos."""
