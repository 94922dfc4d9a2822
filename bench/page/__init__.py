"""The page at `/` in a browser: what its first load takes."""
