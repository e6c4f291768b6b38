//! superstep
fn main() {}
