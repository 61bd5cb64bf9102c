"""The state of a run, shown: telemetry, the log and the terminal, and pages for monitors."""
