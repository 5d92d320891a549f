//! A real S3 server, SeaweedFS, on ports of the loopback that were free.
//!
//! `tests/stores/run.sh` installs it and names its binary in `SCORIA_WEED`.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::authority::Authority;

/// The key pair that it accepts.
pub const ACCESS_KEY: &str = "scoria-test";
pub const SECRET_KEY: &str = "scoria-test-secret-7c1f";
/// The bucket that is there from the start.
pub const BUCKET: &str = "profiles";

/// How long a start may take on a busy machine.
const START_TRIES: u32 = 1200;
/// Starts with other ports when some were taken in between.
const PORT_TRIES: u32 = 4;

/// A running server, gone when dropped.
#[derive(Debug)]
pub struct Seaweed {
    child: Child,
    pub port: u16,
    /// Where it speaks TLS, if it was given a certificate.
    pub tls_port: u16,
}

fn binary() -> PathBuf {
    std::env::var_os("SCORIA_WEED")
        .map(PathBuf::from)
        .expect("SCORIA_WEED is not set: run tests/stores/run.sh")
}

/// A port that is free, as is the one 10,000 above it, which the server opens for its own calls.
fn free_port_pair() -> u16 {
    for _ in 0..1000 {
        let low = crate::process::free_port();
        if !(1024..55_000).contains(&low) {
            continue;
        }
        if TcpListener::bind(("127.0.0.1", low + 10_000)).is_ok() {
            return low;
        }
    }
    panic!("no free pair of ports");
}

impl Seaweed {
    /// Starts it on `dir`, and waits until the bucket takes objects.
    ///
    /// # Panics
    /// With its log when it does not start.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, None)
    }

    /// As [`Seaweed::start`], with a port for TLS beside the other.
    ///
    /// # Panics
    /// As [`Seaweed::start`].
    pub fn start_with_tls(dir: &Path, authority: &Authority) -> Self {
        Self::start_with(dir, Some(authority))
    }

    fn start_with(dir: &Path, authority: Option<&Authority>) -> Self {
        std::fs::create_dir_all(dir).expect("a directory for the S3 server");
        let tls = authority.map(|authority| {
            let file = |name: &str, text: &str| {
                let path = dir.with_extension(name);
                std::fs::write(&path, text).expect("writable");
                path
            };
            let certificate = file("certificate.pem", &authority.certificate);
            (certificate, file("key.pem", &authority.key))
        });
        for _ in 0..PORT_TRIES {
            if let Some(server) = Self::try_start(dir, tls.as_ref()) {
                return server;
            }
        }
        let log = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(30).collect();
        panic!(
            "the S3 server did not start; its log, last line first:\n{}",
            end.join("\n")
        );
    }

    /// `tls` names the files of a certificate and its key.
    fn try_start(dir: &Path, tls: Option<&(PathBuf, PathBuf)>) -> Option<Self> {
        let [s3, secure, master, volume, filer, admin] = std::array::from_fn(|_| free_port_pair());
        let secured = tls.map_or_else(Vec::new, |(certificate, key)| {
            vec![
                format!("-s3.port.https={secure}"),
                format!("-s3.cert.file={}", certificate.display()),
                format!("-s3.key.file={}", key.display()),
            ]
        });
        let log = File::create(dir.with_extension("log")).expect("a log file");
        let child = Command::new(binary())
            .arg("mini")
            .arg(format!("-dir={}", dir.display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args([
                "-master.telemetry=false",
                "-admin.ui=false",
                "-webdav=false",
            ])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-s3.port={s3}"))
            .args(secured)
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-admin.port={admin}"))
            .arg(format!("-bucket={BUCKET}"))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the S3 server can be started");
        let mut server = Self {
            child,
            port: s3,
            tls_port: secure,
        };
        for _ in 0..START_TRIES {
            if server.healthy() {
                return Some(server);
            }
            if !matches!(server.child.try_wait(), Ok(None)) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    fn healthy(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/healthz", self.port);
        let client = crate::process::client();
        client
            .get(url)
            .send()
            .is_ok_and(|answer| answer.status().is_success())
    }

    /// The arguments by which a server of ours uses `s3://profiles/{prefix}` through `port`, which
    /// is this server's or that of a proxy before it.
    pub fn arguments(prefix: &str, port: u16) -> Vec<String> {
        let mut arguments = vec!["--store-url".to_owned(), format!("s3://{BUCKET}/{prefix}")];
        for setting in [
            format!("store.endpoint=http://127.0.0.1:{port}"),
            "store.credentials=static".to_owned(),
            format!("store.access_key_id={ACCESS_KEY}"),
            format!("store.secret_access_key={SECRET_KEY}"),
        ] {
            arguments.extend(["--set".to_owned(), setting]);
        }
        arguments
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
