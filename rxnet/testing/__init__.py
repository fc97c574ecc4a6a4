"""Help for tests: marbles, virtual time, a virtual control plane."""
