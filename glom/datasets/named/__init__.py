"""Data sets of other people by name: how each may lie on disk (`layouts`), and the table of them (`catalogue`)."""
