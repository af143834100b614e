"""Tables of methods × data sets × seeds: train their runs, keep the results as evidence, show them."""
