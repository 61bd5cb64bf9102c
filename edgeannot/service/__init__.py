"""edgeannot as a systemd service: its units, the drop-in made of the configuration, and what installs and removes them."""
