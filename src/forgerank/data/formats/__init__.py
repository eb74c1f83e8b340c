"""Readers of data sets, one module each; `registry` lists them by name.

>>> from forgerank.data.formats.registry import CLIPS, DATASETS
>>> sorted(DATASETS)
['folder', 'forge', 'pack', 'packforge', 'prepared', 'seqdeepfake', 'shards']
>>> sorted(CLIPS)
['celebdf', 'deepfakebench', 'dfd', 'dfdc', 'dfdcpreview', 'faceforensics', 'wilddeepfake']
"""
