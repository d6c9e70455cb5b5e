"""Worker processes for activities."""
