"""`fakesweep listen`: what S3 tells through SQS becomes live submissions."""
