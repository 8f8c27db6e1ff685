//! An axum service with users, login and routes of its own that mounts the engine beside them.

fn main() {}
