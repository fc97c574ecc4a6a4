"""One Device interface over WireGuard programs; today: userspace (wireguard-go and its UAPI socket)."""
