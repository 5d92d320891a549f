//! An HTTP/1.1 proxy between the server under test and an S3 server that spoils requests as a
//! seeded plan says. It knows just enough of HTTP to tell one request from the next.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scoria_storage::testing::Seeded;

/// Longest head and body that are passed on.
const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: u64 = 256 << 20;
/// Requests in a row that a burst of refusals lasts.
const BURST: u64 = 6;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// 500 or 503 SlowDown, not passed on.
    Refused(&'static str),
    /// Passed on, and the connection is closed without an answer.
    LostReply,
    /// Passed on, and answered only after the client has given up.
    SilentReply,
    /// The connection is closed before anything is passed on.
    Dropped,
    /// Half of the answer.
    Torn,
    /// 409 or 412 to a conditional write, not passed on.
    Condition(&'static str),
}

#[derive(Debug)]
struct Plan {
    seeded: Seeded,
    per_mille: u32,
    burst_left: u64,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    plan: Mutex<Plan>,
    outage: AtomicBool,
    stop: AtomicBool,
    requests: AtomicU64,
    faults: AtomicU64,
    /// How long a client waits at most, so that silence outlasts it.
    silence: Duration,
}

/// A proxy on a port of its own, gone when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    pub port: u16,
    shared: Arc<Shared>,
}

const SLOW_DOWN: &str = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 80\r\n\r\n<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
const INTERNAL: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
const CONFLICT: &str = "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n";
const PRECONDITION: &str = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n";

impl FaultProxy {
    /// A proxy to `127.0.0.1:upstream` that passes everything on until told otherwise. `silence`
    /// is longer than a client waits.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(upstream: u16, seed: u64, silence: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let shared = Arc::new(Shared {
            upstream,
            plan: Mutex::new(Plan {
                seeded: Seeded::new(seed),
                per_mille: 0,
                burst_left: 0,
            }),
            outage: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            silence,
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.stop.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(client), shared) = (client, Arc::clone(&accepting)) else {
                    continue;
                };
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, shared }
    }

    /// From now on `per_mille` of a thousand requests go wrong.
    ///
    /// # Panics
    /// When a connection's thread panicked.
    pub fn spoil(&self, per_mille: u32) {
        let mut plan = self.shared.plan.lock().expect("no thread panicked");
        plan.per_mille = per_mille;
        plan.burst_left = 0;
    }

    /// Whether no connection gets through from now on.
    pub fn begin_outage(&self) {
        self.shared.outage.store(true, Ordering::Release);
    }

    pub fn end_outage(&self) {
        self.shared.outage.store(false, Ordering::Release);
    }

    /// Requests that were seen.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// Requests that went wrong, those of an outage included.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Acquire)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// A request as it came, its first line parsed.
struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
    is_read: bool,
    is_conditional: bool,
}

impl Plan {
    fn draw(&mut self, request: &Request) -> Fault {
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return Fault::Refused(SLOW_DOWN);
        }
        if !self.seeded.chance(self.per_mille) {
            return Fault::None;
        }
        match self.seeded.below(8) {
            0 => Fault::Refused(INTERNAL),
            1 => {
                self.burst_left = BURST - 1;
                Fault::Refused(SLOW_DOWN)
            }
            2 => Fault::LostReply,
            3 => Fault::SilentReply,
            4 => Fault::Dropped,
            5 if request.is_conditional => Fault::Condition(CONFLICT),
            6 if request.is_conditional => Fault::Condition(PRECONDITION),
            _ if request.is_read => Fault::Torn,
            _ => Fault::LostReply,
        }
    }
}

impl Shared {
    /// One connection of a client. Whatever breaks off ends it; clients connect anew.
    fn serve(&self, client: TcpStream) {
        let Ok(reading) = client.try_clone() else {
            return;
        };
        let mut reading = BufReader::new(reading);
        while let Some(request) = read_request(&mut reading) {
            self.requests.fetch_add(1, Ordering::AcqRel);
            let fault = self.plan.lock().expect("no thread panicked").draw(&request);
            let outage = self.outage.load(Ordering::Acquire);
            if outage || fault != Fault::None {
                self.faults.fetch_add(1, Ordering::AcqRel);
            }
            if outage || fault == Fault::Dropped {
                break;
            }
            if !self.answer(&client, &request, fault) {
                break;
            }
        }
        drop(client.shutdown(Shutdown::Both));
    }

    /// Whether the connection may serve another request.
    fn answer(&self, mut client: &TcpStream, request: &Request, fault: Fault) -> bool {
        if let Fault::Refused(text) | Fault::Condition(text) = fault {
            return client.write_all(text.as_bytes()).is_ok();
        }
        let Some(answer) = self.pass_on(request) else {
            return false;
        };
        match fault {
            Fault::LostReply => {}
            Fault::SilentReply => std::thread::sleep(self.silence),
            Fault::Torn => drop(client.write_all(&answer[..answer.len() / 2])),
            _ => drop(client.write_all(&answer)),
        }
        // The answer says that the connection closes, and only its end says where it ends.
        false
    }

    fn pass_on(&self, request: &Request) -> Option<Vec<u8>> {
        let mut upstream = TcpStream::connect(("127.0.0.1", self.upstream)).ok()?;
        upstream.write_all(&request.head).ok()?;
        upstream.write_all(&request.body).ok()?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).ok()?;
        Some(answer)
    }
}

/// The next request of a connection; its head asks the S3 server to close after the answer.
fn read_request(reading: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    let mut length = 0u64;
    let mut is_conditional = false;
    let mut is_read = false;
    loop {
        let mut line = Vec::new();
        let read = reading.read_until(b'\n', &mut line).ok()?;
        if read == 0 || head.len() + line.len() > HEAD_BYTES_MAX {
            return None;
        }
        let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
        if head.is_empty() {
            is_read = text.starts_with("get ");
        }
        let end = text.trim().is_empty();
        if end {
            head.extend_from_slice(b"Connection: close\r\n");
        }
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        is_conditional |= text.starts_with("if-none-match:");
        if !text.starts_with("connection:") {
            head.extend_from_slice(&line);
        }
        if end {
            break;
        }
    }
    if length > BODY_BYTES_MAX {
        return None;
    }
    let mut body = vec![0; length as usize];
    reading.read_exact(&mut body).ok()?;
    Some(Request {
        head,
        body,
        is_read,
        is_conditional,
    })
}
