"""Any file to RGB arrays: images, videos with the times of their frames."""
