"""Images and videos: any file to uint8 RGB arrays, videos with the times of their frames.

>>> import pathlib, skimage.data
>>> from forgerank.media.images import read_photo
>>> read_photo(pathlib.Path(skimage.data.data_dir) / "astronaut.png").shape
(512, 512, 3)

Bad files raise `media.files.MediaError`, one line that names the file and the reason.
"""
