"""Google Cloud Storage, through gcsfs. Loads nothing by itself."""
