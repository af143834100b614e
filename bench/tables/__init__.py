"""Tables of methods × data × seeds: run, kept as evidence, shown."""
