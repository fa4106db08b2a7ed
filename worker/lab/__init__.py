"""The paper's side: evaluation, calibration, training, datasets and annotation. It uses the serving path's steps."""
