"""`fakesweep listen`: turns S3's notifications through SQS into live submissions."""
