"""What becomes of events: the rows that show the present and the past."""
