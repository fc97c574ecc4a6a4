"""The embedded control plane: signal, management and STUN in one process, for demos, tests and labs."""
