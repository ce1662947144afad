"""The commands of the command line, one file a command. Each imports what is heavy when it runs."""
