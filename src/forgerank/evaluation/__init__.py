"""Networks on data with known answers: protocols, metrics, calibration."""
