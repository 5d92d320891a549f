//! Clocks for tests: one that stands still until it is moved, one that follows tokio's.

use std::time::Duration;

use parking_lot::Mutex;
use scoria_model::{Clock, Timestamp};

/// Stands still until it is moved.
#[derive(Debug, Default)]
pub struct HeldClock(Mutex<Times>);

#[derive(Debug, Default, Clone, Copy)]
struct Times {
    monotonic: Duration,
    wall_offset: Duration,
}

impl HeldClock {
    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.0.lock().monotonic += by;
    }

    /// Moves the wall clock alone, as when a machine was suspended.
    pub fn advance_wall(&self, by: Duration) {
        self.0.lock().wall_offset += by;
    }
}

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        let times = *self.0.lock();
        Timestamp((times.monotonic + times.wall_offset).as_nanos() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().monotonic
    }
}

/// Follows tokio's clock, which tests with paused time move on as soon as all tasks wait.
#[derive(Debug)]
pub struct TokioClock(tokio::time::Instant);

impl Default for TokioClock {
    fn default() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.elapsed().as_nanos() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}
