"""The command as a module: `python -m edgeannot`, for who has several environments, or none on the PATH."""

from edgeannot.cli.start import main

if __name__ == "__main__":
    main()
