"""edgeannot: annotate pictures on small boards and publish what is in them over MQTT.

Importing this package does nothing but name its version; the command is `edgeannot` (`edgeannot.cli.start`).
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
