"""One reader for each data set: annotations in, samples out."""
