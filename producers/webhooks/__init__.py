"""`fakesweep webhooks`: sends what triggers put into the outbox, by the Standard Webhooks specification.

outbox (claim) -> addresses (resolve and check) -> posting (sign and send) -> outbox (record)
"""
