use super::*;
use crate::config::units::Span;

struct Rig {
    runtime: RuntimeConfig,
    limits: TenantLimits,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

async fn rig(text: &str) -> Result<Rig, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runtime.yaml");
    std::fs::write(&path, text).unwrap();
    let defaults = LimitsConfig::default();
    let limits = TenantLimits::new(defaults.to_limits(), std::collections::HashMap::new());
    let config = RuntimeFileConfig {
        file: path.clone(),
        period: Span(Duration::from_secs(10)),
    };
    let mut registry = Registry::default();
    let runtime = RuntimeConfig::start(config, defaults, limits.clone(), &mut registry).await;
    Ok(Rig {
        runtime: runtime.map_err(|error| error.to_string())?,
        limits,
        path,
        _dir: dir,
    })
}

impl Rig {
    async fn look(&self) {
        if let Err(error) = self.runtime.reload().await {
            self.runtime.failed(&error);
        }
    }

    fn samples(&self) -> u64 {
        let tenant = TenantId::parse("a").unwrap();
        self.limits.of(&tenant).max_profile_stacktrace_samples
    }

    fn successful(&self) -> bool {
        let shown = self.runtime.status()["last_reload_successful"] == json!(true);
        assert_eq!(self.runtime.0.metrics.successful.get() == 1, shown);
        shown
    }
}

fn with(samples: u64) -> String {
    format!("overrides:\n  a:\n    max_profile_stacktrace_samples: {samples}\n")
}

#[tokio::test]
async fn a_changed_file_is_taken_over_and_a_broken_one_is_not() {
    let rig = rig(&with(5)).await.unwrap();
    assert_eq!((rig.samples(), rig.successful()), (5, true));
    std::fs::write(&rig.path, with(6)).unwrap();
    rig.look().await;
    assert_eq!((rig.samples(), rig.successful()), (6, true));
    let good = rig.runtime.status()["xxh3"].clone();

    std::fs::write(&rig.path, "overrides:\n  a: {no_such_limit: 1}\n  b: {}\n").unwrap();
    for _ in 0..2 {
        rig.look().await;
        assert_eq!((rig.samples(), rig.successful()), (6, false));
    }
    let status = rig.runtime.status();
    assert_eq!((&status["xxh3"], &status["tenants"]), (&good, &json!(1)));
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("runtime.yaml") && error.contains("overrides.a.no_such_limit"));

    std::fs::write(&rig.path, with(6)).unwrap();
    rig.look().await;
    assert_eq!((rig.samples(), rig.successful()), (6, true));
}

#[tokio::test]
async fn a_file_that_goes_away_and_comes_back() {
    let rig = rig(&with(5)).await.unwrap();
    std::fs::remove_file(&rig.path).unwrap();
    rig.look().await;
    assert_eq!((rig.samples(), rig.successful()), (5, false));
    std::fs::write(&rig.path, with(5)).unwrap();
    rig.look().await;
    assert_eq!((rig.samples(), rig.successful()), (5, true));
    std::fs::write(&rig.path, "").unwrap();
    rig.look().await;
    assert_eq!((rig.samples(), rig.successful()), (16_000, true));
}

#[tokio::test]
async fn no_server_starts_on_a_broken_file() {
    let told = rig("overrides: [").await.err().unwrap();
    assert!(told.contains("runtime.yaml: not YAML"), "{told}");
}

#[tokio::test]
async fn differences_are_only_what_a_tenant_has_of_its_own() {
    let rig = rig(&with(5)).await.unwrap();
    assert_eq!(
        rig.runtime.overrides(Shown::Differences),
        json!({"overrides": {"a": {"max_profile_stacktrace_samples": 5}}})
    );
    let all = rig.runtime.overrides(Shown::All);
    assert_eq!(all["overrides"]["a"]["max_label_names_per_series"], 30);
    let tenant = TenantId::parse("a").unwrap();
    assert_eq!(
        rig.runtime.limits(&tenant).max_profile_stacktrace_samples,
        5
    );
}
