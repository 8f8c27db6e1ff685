//! The database's server: `cargo run --bin database 127.0.0.1:7100`.

mod server;

use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7100".into());
    let listener = TcpListener::bind(address)?;
    println!("the database is at {}; Ctrl-C ends it", listener.local_addr()?);
    server::serve(&listener)
}
