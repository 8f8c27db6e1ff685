//! WebSocket transport of the im engine: mounts in any tower router, as a warp filter, or stands alone.
