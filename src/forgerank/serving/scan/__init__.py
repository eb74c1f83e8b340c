"""Millions of files in, one Parquet file out: listed, judged by processes or a cluster, summed up."""
