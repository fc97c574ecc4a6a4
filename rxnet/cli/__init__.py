"""The command line: docopt, one module for each verb."""
