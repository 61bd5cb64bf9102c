"""The service: its threads and their supervisor, the governor, telemetry."""
