"""One file a subcommand: its options, one call, printing."""
