"""Local files, and what the backends that stand on fsspec share. Loads nothing by itself."""
