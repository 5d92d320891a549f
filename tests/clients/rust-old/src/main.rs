//! Keeps one function busy under the Rust SDK before its second version, which pushes to `/ingest`:
//! `scoria-client-rust-old SERVER_URL SERVICE SECONDS`.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pyroscope::PyroscopeAgent;
use pyroscope_pprofrs::{PprofConfig, pprof_backend};

#[inline(never)]
fn busy_rust(rounds: u64) -> u64 {
    let (mut total, mut n) = (0u64, 0u64);
    // No iterator: unoptimised, its frames would take the samples.
    while n < rounds {
        total = total.wrapping_mul(31).wrapping_add(n) % 1_000_003;
        n += 1;
    }
    total
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, service, seconds] = &arguments[..] else {
        return Err("usage: scoria-client-rust-old SERVER_URL SERVICE SECONDS".into());
    };
    let agent = PyroscopeAgent::builder(server, service)
        .backend(pprof_backend(PprofConfig::new().sample_rate(100)))
        .tags(vec![("region", "test")])
        .build()?
        .start()?;

    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    while Instant::now() < end {
        black_box(busy_rust(200_000));
    }
    agent.stop()?.shutdown();
    Ok(())
}
