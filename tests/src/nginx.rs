//! An nginx with the configuration of `docs/proxies.md`.
//!
//! | variable | meaning | otherwise |
//! |---|---|---|
//! | `IM_TEST_NGINX` | nginx's binary | `/usr/sbin/nginx` |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

/// A running nginx, which ends when this is dropped.
pub struct Nginx {
    process: Child,
    folder: TempDir,
    /// The address with the configuration of the page.
    pub address: SocketAddr,
    /// The address with only a `proxy_pass`.
    pub bare: SocketAddr,
}

impl Nginx {
    /// Starts nginx in front of a server.
    ///
    /// # Errors
    ///
    /// nginx is missing; the text says how to install it.
    ///
    /// # Panics
    ///
    /// If nginx does not start.
    pub async fn start(server: SocketAddr) -> Result<Self, String> {
        let named = env::var_os("IM_TEST_NGINX");
        let binary = PathBuf::from(named.unwrap_or_else(|| "/usr/sbin/nginx".into()));
        if !binary.is_file() {
            let words = "install nginx or set IM_TEST_NGINX";
            return Err(format!("no nginx at {}: {words}", binary.display()));
        }
        let (address, bare) = (free(), free());
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, whole(folder.path(), server, address, bare)).unwrap();
        let mut command = Command::new(binary);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut nginx = Self { process: command.spawn().unwrap(), folder, address, bare };
        while TcpStream::connect(address).await.is_err() {
            let ended = nginx.process.try_wait().unwrap();
            assert!(ended.is_none(), "nginx ended: {}", nginx.log());
            tokio::task::yield_now().await;
        }
        Ok(nginx)
    }

    /// Returns nginx's error log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The whole configuration: the page's for these addresses, and the parts that nginx needs around
/// it.
fn whole(folder: &Path, server: SocketAddr, address: SocketAddr, bare: SocketAddr) -> String {
    let page = include_str!("../../docs/nginx.conf");
    let page = page.replace("127.0.0.1:8080", &server.to_string());
    let page = page.replace("listen 80;", &format!("listen {address};"));
    assert!(page.contains(&server.to_string()) && page.contains(&address.to_string()));
    let log = folder.join("error.log");
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places: String = kinds
        .iter()
        .map(|kind| format!("{kind}_temp_path {};\n", folder.join(kind).display()))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\n\
         http {{\naccess_log off;\n{places}{page}\n\
         server {{ listen {bare}; location / {{ proxy_pass http://{server}; }} }}\n}}\n",
        folder.join("pid").display(),
        log.display(),
    )
}
