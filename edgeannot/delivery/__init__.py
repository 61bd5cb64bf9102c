"""From a result to the broker and nothing lost between: ledger and outbox on the disk, and the link that empties it."""
