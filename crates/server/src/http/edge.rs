//! The edge: what happens to every request, whatever its route, before and after its handler.
//!
//! ```text
//! method ─► tenant ─► memory ─► body under permit ─► gzip off ─► handler ─► rest of body ─► metric
//! ```
//!
//! # Invariants
//! - A handler never sees a request without its [`TenantScope`], a write while memory is short, or
//!   a body that nobody paid for.
//! - Every request is counted once, refused ones too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use connectrpc::{ErrorCode, Protocol};
use http::header::ALLOW;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use scoria_model::Permit;
use scoria_pprof::gunzip::is_gzip;

use super::App;
use super::body::{self, RETRY_AFTER};
use super::fault::Fault;
use super::leftover::Leftover;
use super::query::Holdings;
use super::route::Route;
use super::tenancy::TenantScope;

pub(super) async fn edge(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = Route::of(request.uri().path());
    let protocol = protocol(request.headers());
    let (method, label) = match protocol {
        Some(Protocol::Grpc | Protocol::GrpcWeb) if route.is_rpc() || route.is_otlp() => {
            ("gRPC", route.grpc_label())
        }
        _ => (method_label(request.method()), route.label()),
    };
    let headers = request.headers().clone();
    let (request, leftover) = Leftover::of(request);
    let response = match answer(&app, route, request, next).await {
        Ok(response) => response,
        Err(fault) if route.is_rpc() => fault.into_rpc_response(&headers),
        Err(fault) if route.is_otlp() => super::otlp::refused(fault, &headers),
        Err(fault) => fault.into_response(),
    };
    if let Some(leftover) = leftover
        && response.status() != StatusCode::REQUEST_TIMEOUT
    {
        leftover.drain().await;
    }
    app.requests
        .observe(method, label, response.status(), started.elapsed());
    response
}

fn protocol(headers: &HeaderMap) -> Option<Protocol> {
    Protocol::detect(headers).map(|detected| detected.protocol)
}

/// A method of which there are few; others share a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

async fn answer(app: &App, route: Route, request: Request, next: Next) -> Result<Response, Fault> {
    if let Some(refused) = refuse_method(route, request.method()) {
        return Ok(refused);
    }
    let (mut request, _permit) = if route.has_tenant() {
        let scope = TenantScope::of(&app.config.auth, route, request.headers())?;
        let admitted = admit(app, route, &scope, request).await;
        let (request, permit) = admitted.inspect_err(|fault| {
            if route.writes() {
                app.refused(scope.tenants(), fault);
            }
        })?;
        (request, permit)
    } else {
        (request, None)
    };
    let unread = match route.is_push() {
        true => Unread::within(&mut request),
        false => None,
    };
    let patience = Patience::of(app.config.server.request_timeout.0, route, &mut request);
    // Given back when the answer has been encoded and compressed, or given up.
    let holdings = Holdings::default();
    if route.asks() {
        request.extensions_mut().insert(holdings.clone());
    }
    let answer = async {
        if route.asks() {
            let whole = async move { whole(next.run(request).await).await };
            let answer = app.queries.run(whole).await;
            return answer.map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        }
        Ok(next.run(request).await)
    };
    let answer = tokio::time::timeout(patience.limit, answer).await;
    let answer = answer.map_err(|_| patience.ended(route))?;
    if let (Some(unread), Ok(answer)) = (unread, &answer) {
        unread.tell(app, answer);
    }
    answer
}

/// A request to the pusher until it has been read as a message; what is none the protocol refuses,
/// before the handler could tell its tenant.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    is_read: Arc<AtomicBool>,
    tenants: TenantScope,
}

impl Unread {
    fn within(request: &mut Request) -> Option<Self> {
        let tenants = request.extensions().get::<TenantScope>()?.clone();
        let unread = Self {
            is_read: Arc::default(),
            tenants,
        };
        request.extensions_mut().insert(unread.clone());
        Some(unread)
    }

    /// The handler has it.
    pub(super) fn is_read(extensions: &Extensions) {
        if let Some(unread) = extensions.get::<Self>() {
            unread.is_read.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a request that was refused unread, and remembers it for its tenant.
    fn tell(&self, app: &App, answer: &Response) {
        let in_grpc = answer.headers().get("grpc-status");
        let is_refused = match in_grpc.and_then(|code| code.to_str().ok()) {
            None => answer.status() == StatusCode::BAD_REQUEST,
            // Invalid argument, and internal, as which messages that cannot be read are told too.
            Some(code) => matches!(code, "3" | "13"),
        };
        if is_refused && !self.is_read.load(Ordering::Relaxed) {
            let fault = Fault::invalid("the request is no push.v1.PushRequest that can be read");
            app.refused(self.tenants.tenants(), &fault);
        }
    }
}

/// How long an answer may take, and who says so.
struct Patience {
    limit: Duration,
    says: &'static str,
}

impl Patience {
    /// The server's, or what the client says if that is shorter. Its header is taken off then: who
    /// runs out of patience first would tell less of why. An answer without an end is left to the
    /// protocol, as only its beginning is waited for here.
    fn of(limit: Duration, route: Route, request: &mut Request) -> Self {
        let own = Self {
            limit,
            says: "server.request_timeout",
        };
        if matches!(route, Route::Health { .. }) {
            return own;
        }
        let headers = request.headers_mut();
        for (name, read) in [
            ("connect-timeout-ms", connect_timeout as fn(&str) -> _),
            ("grpc-timeout", grpc_timeout),
        ] {
            let given = headers.get(name).and_then(|value| value.to_str().ok());
            if let Some(asked) = given.and_then(read).filter(|asked| *asked < limit) {
                headers.remove(name);
                return Self {
                    limit: asked,
                    says: name,
                };
            }
        }
        own
    }

    fn ended(&self, route: Route) -> Fault {
        let (seconds, says) = (self.limit.as_secs_f64(), self.says);
        let remedy = match route.asks() {
            true => "ask for a shorter range, add matchers, or wait longer",
            false => "send less at a time, or wait longer",
        };
        Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("no answer within {seconds} s ({says}); {remedy}"),
        )
    }
}

/// Milliseconds in at most ten digits; what is none is left to the protocol.
fn connect_timeout(text: &str) -> Option<Duration> {
    let digits = text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    let ms = digits.then(|| text.parse().ok()).flatten()?;
    Some(Duration::from_millis(ms))
}

/// At most eight digits and a unit; what is none is left to the protocol.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(3600 * n),
        "M" => Duration::from_secs(60 * n),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// An answer with all its bytes, so that none is compressed while the connection sends it.
async fn whole(answer: Response) -> Result<Response, Fault> {
    let (parts, body) = answer.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| Fault::new(ErrorCode::Internal, format!("writing the answer: {error}")))?;
    let body = match body.trailers() {
        Some(_) => Body::new(body),
        None => Body::from(body.to_bytes()),
    };
    Ok(Response::from_parts(parts, body))
}

/// A deadline is at most ten digits of milliseconds in the Connect protocol. One that cannot be read
/// would else be none, and the client wait for what it believes to be bounded.
///
/// # Errors
/// 400 for anything else.
fn refuse_timeout(headers: &HeaderMap) -> Result<(), Fault> {
    let Some(timeout) = headers.get(Protocol::Connect.timeout_header()) else {
        return Ok(());
    };
    let digits = timeout.as_bytes();
    if (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "Connect-Timeout-Ms is {timeout:?}; it is a number of milliseconds of 1 to 10 digits, or left out"
    )))
}

/// 405 with what is allowed, for a method that the route does not take.
fn refuse_method(route: Route, method: &Method) -> Option<Response> {
    let allowed = route.method()?;
    let fits = method.as_str() == allowed || (allowed == "GET" && method == Method::HEAD);
    if fits {
        return None;
    }
    let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    Some(response)
}

/// Takes the body of a request in, unless the handler does that itself.
async fn admit(
    app: &App,
    route: Route,
    scope: &TenantScope,
    request: Request,
) -> Result<(Request, Option<Permit>), Fault> {
    let (mut parts, body) = request.into_parts();
    let limit = app.body_bytes_max(scope.tenants());
    parts.extensions.insert(scope.clone());
    if route.writes() && app.memory.shedding() {
        return Err(Fault::unavailable(
            format!(
                "memory is nearly full ({} of {} bytes); send it again later",
                app.memory.resident(),
                app.memory.limit
            ),
            RETRY_AFTER,
        ));
    }
    if route.streams() {
        return Ok((Request::from_parts(parts, body), None));
    }
    let within = app.config.server.read_timeout.0;
    let read = body::read(&parts.headers, body, limit, &app.memory.bodies);
    let read = tokio::time::timeout(within, read).await;
    let mut paid = read.map_err(|_| body::too_slow(within))??;
    // gRPC compresses each message inside its own framing.
    let enveloped = matches!(
        protocol(&parts.headers),
        Some(Protocol::Grpc | Protocol::GrpcWeb)
    );
    // The old API never looked at the header: a body may have been decompressed on its way.
    let is_plain = route.is_ingest() && !is_gzip(&paid.bytes);
    if !enveloped && !is_plain {
        paid = body::decode(&mut parts.headers, paid, limit).await?;
        if route.is_rpc() {
            refuse_timeout(&parts.headers)?;
            body::refuse_encoding(&parts.headers)?;
        }
    }
    Ok((
        Request::from_parts(parts, Body::from(paid.bytes)),
        Some(paid.permit),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_patience_counts() {
        let limit = Duration::from_secs(10);
        let of = |name: &'static str, value: &'static str| {
            let request = Request::builder().header(name, value).body(Body::empty());
            let mut request = request.unwrap_or_else(|e| panic!("{e}"));
            let patience = Patience::of(limit, Route::Unknown, &mut request);
            let is_left = request.headers().contains_key(name);
            assert_eq!(is_left, patience.limit == limit, "{value}");
            patience.limit
        };
        let ms = Duration::from_millis;
        assert_eq!(of("connect-timeout-ms", "300"), ms(300));
        assert_eq!(of("connect-timeout-ms", "20000"), limit);
        for odd in ["", "-1", "1.5", "12345678901", "soon"] {
            assert_eq!(of("connect-timeout-ms", odd), limit, "{odd}");
        }
        for (text, wanted) in [
            ("300m", ms(300)),
            ("2S", ms(2000)),
            ("5n", Duration::from_nanos(5)),
        ] {
            assert_eq!(of("grpc-timeout", text), wanted, "{text}");
        }
        for odd in ["", "m", "1", "1x", "123456789m", "1H"] {
            assert_eq!(of("grpc-timeout", odd), limit, "{odd}");
        }
    }
}
