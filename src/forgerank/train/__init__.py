"""Training, evaluation and calibration; needs the extra `train`."""
