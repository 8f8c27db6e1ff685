//! Load, replay and comparison tool of the im engine.

fn main() {}
