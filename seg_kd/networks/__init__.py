"""What is done to any network: read maps, load weights, fold, count."""
