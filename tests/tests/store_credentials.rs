//! Whom the built binary says that it is to an S3 server, where the platform says so: an instance's
//! role, a web identity's; and which certificates it trusts. The platform and the server are played
//! here and refuse every request once they have seen who sends it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use scoria_tests::authority::Authority;
use scoria_tests::process::binary;

const KEY: &str = "ROLES-KEY";
const TOKEN: &str = "token-of-the-role";
const HEAD_LINES_MAX: usize = 100;

/// A request: its first line and its headers, names in small letters.
#[derive(Debug, Clone, Default)]
struct Head {
    line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl Read) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = Self::default();
        reader.read_line(&mut head.line).ok()?;
        for _ in 0..HEAD_LINES_MAX {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            let name = name.to_ascii_lowercase();
            head.headers.push((name, value.to_owned()));
        }
        (!head.line.is_empty()).then_some(head)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(found, _)| found == name)?;
        Some(value)
    }
}

/// Plays the metadata service, the token service and S3, over TLS or not.
struct Played {
    port: u16,
    seen: Arc<Mutex<Vec<Head>>>,
}

impl Played {
    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&seen);
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream, tls.as_ref(), &heads);
            }
        });
        Self { port, seen }
    }

    /// What was asked of the bucket.
    fn of_bucket(&self) -> Vec<Head> {
        let seen = self.seen.lock().expect("no thread panicked").clone();
        let of_bucket = |head: &Head| head.line.contains("/played-bucket");
        seen.into_iter().filter(of_bucket).collect()
    }
}

fn serve(stream: TcpStream, tls: Option<&Arc<ServerConfig>>, seen: &Mutex<Vec<Head>>) {
    match tls {
        None => answer(stream, seen),
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config)).expect("a sound setting");
            answer(StreamOwned::new(connection, stream), seen);
        }
    }
}

fn answer(mut stream: impl Read + Write, seen: &Mutex<Vec<Head>>) {
    // A client that does not trust us says no more than that.
    let Some(head) = Head::read(&mut stream) else {
        return;
    };
    let (status, body) = answer_to(&head.line);
    seen.lock().expect("no thread panicked").push(head);
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    if stream.write_all(reply.as_bytes()).is_ok() {
        // The client may have gone with what it has.
        drop(stream.flush());
    }
}

fn answer_to(line: &str) -> (&'static str, String) {
    const UNTIL: &str = "2999-01-01T00:00:00Z";
    if line.contains("AssumeRoleWithWebIdentity") {
        let keys = format!(
            "<AccessKeyId>{KEY}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>{TOKEN}</SessionToken><Expiration>{UNTIL}</Expiration>"
        );
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>{keys}</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        );
        return ("200 OK", body);
    }
    if line.contains("/latest/api/token") {
        return ("200 OK", "metadata-token".to_owned());
    }
    if line.contains("/security-credentials/the-role") {
        let body = format!(
            r#"{{"Code":"Success","AccessKeyId":"{KEY}","SecretAccessKey":"s","Token":"{TOKEN}","Expiration":"{UNTIL}"}}"#
        );
        return ("200 OK", body);
    }
    if line.contains("/security-credentials/") {
        return ("200 OK", "the-role".to_owned());
    }
    let body = "<Error><Code>AccessDenied</Code><Message>seen</Message></Error>";
    ("403 Forbidden", body.to_owned())
}

/// Runs a verb on the played bucket; what it says. It cannot succeed.
fn run(dir: &Path, settings: &[String], platform: &[(&str, String)]) -> String {
    let mut command = Command::new(binary());
    command
        .args(["catalog", "show", "--store-url", "s3://played-bucket/deep"])
        .arg("--data-dir")
        .arg(dir);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let own = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
    for (name, _) in own {
        command.env_remove(name);
    }
    for (name, value) in platform {
        command.env(name, value);
    }
    let output = command.output().expect("the binary runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Requests are signed with the role's key and carry its token.
fn assert_signed(played: &Played, said: &str) {
    let of_bucket = played.of_bucket();
    assert!(!of_bucket.is_empty(), "{said}");
    for head in of_bucket {
        let signed = head.header("authorization").unwrap_or_default();
        assert!(signed.contains(&format!("Credential={KEY}/")), "{head:?}");
        assert_eq!(head.header("x-amz-security-token"), Some(TOKEN));
    }
    assert!(
        said.contains("403"),
        "what the server said is passed on: {said}"
    );
    assert!(!said.contains(TOKEN), "no secret is: {said}");
}

#[test]
fn an_instances_role_signs_requests() {
    let dir = tempfile::tempdir().expect("a directory");
    let played = Played::start(None);
    let address = format!("http://127.0.0.1:{}", played.port);
    let endpoint = [format!("store.endpoint={address}")];
    let platform = [("AWS_METADATA_ENDPOINT", address)];
    let said = run(dir.path(), &endpoint, &platform);
    assert_signed(&played, &said);
}

#[test]
fn a_web_identity_signs_requests_to_servers_with_a_certificate_of_ones_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tls, authority) = certificates();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, authority).expect("writable");
    let token_file = dir.path().join("identity");
    std::fs::write(&token_file, "who-i-am").expect("writable");
    let played = Played::start(Some(tls));
    let address = format!("https://127.0.0.1:{}", played.port);
    let platform = [
        (
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            token_file.display().to_string(),
        ),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/played".to_owned()),
        ("AWS_ENDPOINT_URL_STS", address.clone()),
    ];
    let endpoint = format!("store.endpoint={address}");
    let trusted = format!("store.ca_file={}", ca_file.display());
    let once = "store.attempts=1".to_owned();
    let said = run(dir.path(), &[endpoint.clone(), once.clone()], &platform);
    assert!(played.of_bucket().is_empty(), "not trusted: {said}");
    let said = run(dir.path(), &[endpoint, once, trusted], &platform);
    assert_signed(&played, &said);
    let seen = played.seen.lock().expect("no thread panicked");
    let assumed = seen.iter().find(|head| head.line.contains("AssumeRole"));
    let line = &assumed.expect("the role is assumed").line;
    assert!(
        line.contains("who-i-am") && line.contains("played"),
        "{line}"
    );
}

/// A server's setting with a certificate for this machine, and the authority that made it, in PEM.
fn certificates() -> (Arc<ServerConfig>, String) {
    let made = Authority::new();
    let (certificate, key) = made.der;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.into()))
        .expect("a certificate with its key");
    (Arc::new(config), made.authority)
}
