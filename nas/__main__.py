"""`python -m nas`: the command line where the console script is not on the path."""

from nas.cli.main import main

main()
