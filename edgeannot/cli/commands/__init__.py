"""One file a subcommand of `edgeannot`: what it takes, what it prints. `cli` finds them by name and loads one when it is called."""
