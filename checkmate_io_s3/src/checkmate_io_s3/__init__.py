"""S3, through s3fs. Loads nothing by itself."""
