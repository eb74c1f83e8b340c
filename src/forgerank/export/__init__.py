"""From a trained network to the folder that the detector loads."""
