//! What happened, line by line, for a reader.

use std::fmt;
use std::time::Duration;

/// Whether a trace is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceMode {
    Off,
    On,
}

/// The lines of a run; none when tracing is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    mode: TraceMode,
    lines: Vec<String>,
}

impl Trace {
    pub fn new(mode: TraceMode) -> Self {
        Self {
            mode,
            lines: Vec::new(),
        }
    }

    /// Adds a line; `text` is only asked when tracing is on.
    pub fn line(&mut self, at: Duration, who: impl fmt::Display, text: impl FnOnce() -> String) {
        if self.mode == TraceMode::On {
            let seconds = at.as_secs_f64();
            self.lines
                .push(format!("{seconds:>10.4}s {who:<8} {}", text()));
        }
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
