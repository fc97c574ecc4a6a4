"""The host: netlink monitor, addresses and routes, and the journal of host changes."""
