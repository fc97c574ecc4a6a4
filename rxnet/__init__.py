"""rxnet: a NetBird-compatible mesh network client whose engine is a reactive stream."""
