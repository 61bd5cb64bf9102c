"""What runs as a service: threads and their watch, the governor, and what is told of it all."""
