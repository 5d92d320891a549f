//! Keeps one function busy under the Rust SDK: `scoria-client-rust SERVER_URL SERVICE SECONDS`.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pyroscope::backend::{BackendConfig, PprofConfig, pprof_backend};
use pyroscope::pyroscope::PyroscopeAgentBuilder;

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
        return Err("usage: scoria-client-rust SERVER_URL SERVICE SECONDS".into());
    };
    let backend = pprof_backend(PprofConfig::default(), BackendConfig::default());
    let agent = PyroscopeAgentBuilder::new(
        server,
        service,
        100,
        "pyroscope-rs",
        env!("CARGO_PKG_VERSION"),
        backend,
    )
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
