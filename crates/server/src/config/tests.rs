//! Precedence, unknown keys and the errors about values.

use super::*;

fn load(change: impl FnOnce(&mut Layers)) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    change(&mut layers);
    layers.load()
}

fn file(text: &str) -> Option<(std::path::PathBuf, String)> {
    Some(("scoria.yaml".into(), text.to_owned()))
}

fn env(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(load(|_| ()).unwrap(), Config::default());
    let empty = load(|l| l.file = file("# only a comment\nserver:\n")).unwrap();
    assert_eq!(empty, Config::default());
}

#[test]
fn a_higher_layer_wins() {
    let layer = |n: usize| {
        load(|l| {
            l.file = file("ingester:\n  cut_age: 1m\n");
            if n > 1 {
                l.environment.push(env("SCORIA_INGESTER__CUT_AGE", "2m"));
            }
            if n > 2 {
                l.sets.push("ingester.cut_age=3m".into());
            }
            if n > 3 {
                l.flags.push(("--cut-age", "ingester.cut_age", "4m".into()));
            }
        })
        .unwrap()
        .ingester
        .cut_age
        .to_string()
    };
    assert_eq!([1, 2, 3, 4].map(layer), ["1m", "2m", "3m", "4m"]);
}

#[test]
fn every_kind_of_value_is_read_from_text() {
    let config = load(|l| {
        l.sets = [
            "auth.multitenancy_enabled=true",
            "limits.max_profile_size_bytes=64MiB",
            "limits.reject_older_than_ms=2h",
            "limits.max_label_names_per_series=7",
            "log.format=json",
            "memory.limit=1GiB",
            "server.listen=127.0.0.1:0",
            "self_profiling.service_name=123",
        ]
        .map(str::to_owned)
        .to_vec();
    })
    .unwrap();
    assert!(config.auth.multitenancy_enabled);
    assert_eq!(config.limits.max_profile_size_bytes.0, 64 << 20);
    assert_eq!(config.limits.reject_older_than_ms.0, 7_200_000);
    assert_eq!(config.limits.max_label_names_per_series, 7);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.memory.limit.to_string(), "1GiB");
    assert_eq!(config.server.listen.port(), 0);
    assert_eq!(config.self_profiling.service_name, "123");
}

#[test]
fn an_unknown_key_names_its_layer_and_the_nearest_key() {
    let told = |change: fn(&mut Layers)| load(change).unwrap_err().to_string();
    assert_eq!(
        told(|l| l.sets = vec!["server.listn=1".into()]),
        "--set server.listn=1: there is no setting server.listn; did you mean server.listen?"
    );
    assert_eq!(
        told(|l| l.file = file("sever:\n  listen: 127.0.0.1:1\n")),
        "scoria.yaml: there is no setting sever; did you mean server?"
    );
    assert_eq!(
        told(|l| l.file = file("server:\n  multitenancy_enabled: true\n")),
        "scoria.yaml: there is no setting server.multitenancy_enabled; did you mean auth.multitenancy_enabled?"
    );
    assert_eq!(
        told(|l| l.environment = vec![env("SCORIA_LOG__LEVLE", "info")]),
        "environment variable SCORIA_LOG__LEVLE: there is no setting log.levle; did you mean log.level?"
    );
    assert!(told(|l| l.sets = vec!["a.b=c".into()]).contains("docs/reference/config.md"));
    assert!(told(|l| l.sets = vec!["server.listen".into()]).contains("section.key=value"));
}

#[test]
fn other_variables_of_ours_are_not_settings() {
    let config = load(|l| {
        l.environment = vec![
            env("SCORIA_CORPUS", "/x"),
            env("PATH", "/bin"),
            env("A__B", "c"),
        ];
    });
    assert_eq!(config.unwrap(), Config::default());
}

#[test]
fn a_value_that_does_not_fit_names_its_key() {
    let told = |set: &str| {
        load(|l| l.sets.push(set.to_owned()))
            .unwrap_err()
            .to_string()
    };
    assert!(
        told("ingester.cut_age=15").contains("ingester.cut_age: \"15\" is not a length of time")
    );
    assert!(told("server.listen=here").contains("server.listen: "));
    assert!(told("server.target=querier").contains("the targets querier cannot run alone"));
    assert!(told("memory.heads_percent=300").contains("memory.heads_percent: "));
    assert!(told("auth.multitenancy_enabled=maybe").contains("expected a boolean"));
    assert!(told("memory.limit=lots").contains("or auto"));
    let nested = load(|l| l.file = file("server: 3\n")).unwrap_err();
    assert!(
        nested.to_string().contains("server is a section"),
        "{nested}"
    );
    assert!(load(|l| l.file = file("server: [")).is_err());
}

#[test]
fn errors_of_numbers_in_a_file_do_not_pass_as_text() {
    let config = load(|l| l.file = file("limits:\n  max_profile_size_bytes: 1048576\n")).unwrap();
    assert_eq!(config.limits.max_profile_size_bytes.0, 1 << 20);
    assert!(load(|l| l.file = file("log:\n  level: [info]\n")).is_err());
}

#[test]
fn a_dump_is_a_config_and_shows_no_secret() {
    let mut config = Config::default();
    config.storage.url = "s3://key:hunter1@bucket/prefix?token=hidden".to_owned();
    config.store.secret_access_key = secret::Secret::new("hunter2");
    let dump = config.dump();
    assert!(
        !dump.contains("hunter") && !dump.contains("hidden"),
        "{dump}"
    );
    assert!(
        dump.contains("secret_access_key: \"***\"") || dump.contains("secret_access_key: '***'"),
        "{dump}"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(dump.contains("token="), "{dump}");

    let dump = Config::default().dump();
    assert_eq!(load(|l| l.file = file(&dump)).unwrap(), Config::default());
}

#[test]
fn the_store_lies_in_the_data_directory_unless_told_otherwise() {
    let mut config = Config::default();
    config.storage.data_dir = "/var/lib/scoria".into();
    assert_eq!(config.store_url().unwrap(), "file:///var/lib/scoria/store");
    config.storage.url = "memory:".into();
    assert_eq!(config.store_url().unwrap(), "memory:");
}

#[test]
fn limits_go_by_their_names_from_elsewhere_in_every_layer() {
    let config = load(|l| {
        l.file =
            file("limits:\n  ingestion_rate_mb: 4\n  reject_older_than: 2h\n  write_path: ''\n");
        l.environment = vec![env("SCORIA_LIMITS__INGESTION_BURST_SIZE_MB", "2")];
        l.sets = vec!["limits.max_query_lookback=1w".to_owned()];
    });
    let limits = config.unwrap().limits;
    assert_eq!(limits.ingestion_rate_bytes.0, 4 << 20);
    assert_eq!(limits.ingestion_burst_bytes.0, 2 << 20);
    assert_eq!(limits.reject_older_than_ms.0, 7_200_000);
    assert_eq!(limits.max_query_lookback_ms.0, 604_800_000);
    let refused = load(|l| l.file = file("limits:\n  write_path: combined\n")).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("limits.write_path: not available: "),
        "{refused}"
    );
}
