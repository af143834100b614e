"""A bundle's cascade, measured: accuracy and mean latency against the share of texts that go to the teacher."""
