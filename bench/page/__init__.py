"""A report as one HTML file with plots to explore. It needs no network and no other file."""
