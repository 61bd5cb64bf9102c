"""What `edgeannot doctor` looks at: a function for each check, registered in `checks`, run side by side within its time by `run`."""
