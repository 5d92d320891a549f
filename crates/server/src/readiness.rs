//! Whether the process is fit to take requests, as `/ready` tells it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Says in words what is wrong with a role, if anything is.
pub type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Collects what the roles say of themselves.
#[derive(Default)]
pub struct Readiness {
    started: AtomicBool,
    draining: CancellationToken,
    checks: Mutex<Vec<(&'static str, Check)>>,
    notes: Mutex<Vec<(&'static str, Check)>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("red", &self.red())
            .finish()
    }
}

impl Readiness {
    /// Asks `check` from now on; `name` stands before what it says.
    pub fn add(&self, name: &'static str, check: Check) {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name, check));
    }

    /// Shows what `check` says from now on, without turning red for it.
    pub fn add_note(&self, name: &'static str, check: Check) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name, check));
    }

    /// What somebody should look at although everything works.
    pub fn notes(&self) -> Vec<String> {
        said(&self.notes)
    }

    /// All roles of the process are up.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The process is stopping.
    pub fn draining(&self) {
        self.draining.cancel();
    }

    /// Whether the process is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until the process is stopping.
    pub async fn drained(&self) {
        self.draining.cancelled().await;
    }

    /// Everything that can be red by name, and what it says if it is.
    pub fn states(&self) -> Vec<(&'static str, Option<String>)> {
        let server = if self.is_draining() {
            Some("stopping".to_owned())
        } else if self.started.load(Ordering::Acquire) {
            None
        } else {
            Some("starting".to_owned())
        };
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = checks.iter().map(|(name, check)| (*name, check()));
        std::iter::once(("server", server)).chain(asked).collect()
    }

    /// A line for everything that is not as it should be; empty means ready.
    pub fn red(&self) -> Vec<String> {
        let mut red = Vec::new();
        if self.is_draining() {
            red.push("server: stopping".to_owned());
        }
        if !self.started.load(Ordering::Acquire) {
            red.push("server: starting".to_owned());
        }
        red.extend(said(&self.checks));
        red
    }
}

fn said(checks: &Mutex<Vec<(&'static str, Check)>>) -> Vec<String> {
    let checks = checks.lock().unwrap_or_else(PoisonError::into_inner);
    let said = |(name, check): &(&'static str, Check)| Some(format!("{name}: {}", check()?));
    checks.iter().filter_map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_red_is_named() {
        let readiness = Readiness::default();
        assert_eq!(readiness.red(), ["server: starting"]);
        readiness.started();
        assert!(readiness.red().is_empty());
        readiness.add("ingester", Box::new(|| Some("disk full".to_owned())));
        readiness.add("querier", Box::new(|| None));
        readiness.add_note(
            "ingester",
            Box::new(|| Some("a segment is damaged".to_owned())),
        );
        assert_eq!(readiness.notes(), ["ingester: a segment is damaged"]);
        assert_eq!(readiness.red(), ["ingester: disk full"]);
        let states = readiness.states();
        assert_eq!(states[0], ("server", None));
        assert_eq!(states[1], ("ingester", Some("disk full".to_owned())));
        assert_eq!(states[2], ("querier", None));
        readiness.draining();
        assert_eq!(readiness.red(), ["server: stopping", "ingester: disk full"]);
    }
}
