"""Azure Blob Storage, through adlfs. Loads nothing by itself."""
