"""What only maintainers run: builds the bundled models and their labels. Not in the wheel."""
