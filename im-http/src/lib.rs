//! The HTTP edge that the transports share: credentials, origin policy, upgrades, our own listener.
