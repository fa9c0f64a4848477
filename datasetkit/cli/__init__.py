"""The command line: parse, build options, one call into the api, one table."""
