"""Tables of any size: classified row by row in a stream, by several processes, and carried on after a kill. No torch."""
