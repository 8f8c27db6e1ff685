//! The README's server as a process: it starts in an empty folder, and serves its own routes and the chat.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes this, and reads until that came.
fn ask(stream: &mut TcpStream, bytes: &[u8], until: &str) {
    stream.write_all(bytes).unwrap();
    let (mut read, mut some) = (String::new(), [0; 4096]);
    while !read.contains(until) {
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "it ended without {until}: {read}");
        read += &String::from_utf8_lossy(&some[..count]);
    }
}

/// A text message, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(text.bytes());
    frame
}

#[test]
fn readme_server_answers_hello() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme-server");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mount-axum"));
    command.arg("127.0.0.1:0").current_dir(&folder).stdout(Stdio::piped());
    let mut server = Server(command.spawn().unwrap());
    let mut said = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim().strip_prefix("listening on ").expect("it says where it listens");

    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    ask(&mut stream, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "your own routes");
    let upgrade = b"GET /chat/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    ask(&mut stream, upgrade, "HTTP/1.1 101");
    ask(&mut stream, &frame(r#"{"t":"hello","id":1,"v":1,"user":"ann"}"#), r#""session":"#);
    assert!(folder.join("im-data/im.db").is_file(), "messages are kept");
}
