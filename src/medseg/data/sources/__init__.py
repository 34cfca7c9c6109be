"""Sources: a source is a function that turns a root folder into a list of cases; one file per kind of dataset."""
