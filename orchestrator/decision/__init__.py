"""What was observed, and what is done about it. Pure: no file, no database, no clock."""
