"""The research side: evaluation, calibration, training, datasets, annotation. It uses the steps of the serving path."""
