"""One command over many settings: runs planned from a file, made by an executor, compared in one table."""
