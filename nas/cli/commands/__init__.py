"""The commands of the command line, one file per command. Each imports slow modules only when it runs."""
