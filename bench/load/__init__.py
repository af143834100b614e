"""Load over HTTP: any URL, in an open or a closed loop."""
