//! The one entry for checks and tests.

fn main() {}
