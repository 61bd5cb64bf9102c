"""What the kernel tells in files: reading them, and the control groups of this process."""
