"""What has to outlive the process: the database with the ledger and the outbox."""
