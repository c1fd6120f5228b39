"""Named workloads, a runner that pairs this server with a peer on the same machine, and result tables."""
