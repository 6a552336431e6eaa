"""A folder of images, encoded once and searched by sentences."""
