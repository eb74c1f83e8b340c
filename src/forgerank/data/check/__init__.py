"""Whether a data set is whole and its splits are apart."""
