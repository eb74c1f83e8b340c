"""The detector for many users and many files: a REST service, a web page, scans of whole archives.

All three give their files to a `Judge`:

    >>> from forgerank.detect import Detector
    >>> from forgerank.serving.judge import FileJudge
    >>> judge = FileJudge(Detector(), fps=1.0, max_seconds=600)
    >>> judge.detector.metadata.labels
    ('nose', 'eye', 'eyebrow', 'lip', 'hair')
"""
