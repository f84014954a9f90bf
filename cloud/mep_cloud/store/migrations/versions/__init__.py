"""One file for each change of the schema; see the package above."""
