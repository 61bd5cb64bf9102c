"""One file a subcommand of `edgeannot`: its options and what it prints. `cli.app` finds them by name and loads one when it is called."""
