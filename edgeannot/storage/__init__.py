"""The database with the ledger and the outbox; it outlives the process."""
