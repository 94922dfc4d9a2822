"""The result store: files in a folder or an S3 bucket, named by when they expire."""
