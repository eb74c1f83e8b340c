"""Millions of files in, one Parquet file out: listed, judged by processes or a cluster, summed up.

>>> from pathlib import Path
>>> from tempfile import mkdtemp
>>> from forgerank.serving.scan.run import scan
>>> from forgerank.serving.scan.scan_settings import ScanSettings
>>> from forgerank.serving.scan.summary import summarize
>>> folder = Path(mkdtemp())
>>> _ = (folder / "broken.jpg").write_text("no image")
>>> scan(ScanSettings(sources=(str(folder),), out=folder / "results.parquet"))
Done(files=1, judged=1)
>>> sum(summarize(folder / "results.parquet").errors.values())
1
"""
