//! The generated code is what the generators make of `proto/` today.
//!
//! `SCORIA_REGENERATE=1 cargo test -p scoria-proto --test generated` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of the internal family, relative to `proto/`.
const INTERNAL: [&str; 1] = ["scoria/ingester/v1/ingester.proto"];
/// Files of the public family, relative to `proto/`.
const PUBLIC: [&str; 12] = [
    "adhocprofiles/v1/adhocprofiles.proto",
    "capabilities/v1/feature_flags.proto",
    "debuginfo/v1alpha1/debuginfo.proto",
    "google/v1/profile.proto",
    "grpc/health/v1/health.proto",
    "push/v1/push.proto",
    "querier/v1/querier.proto",
    "settings/v1/recording_rules.proto",
    "settings/v1/settings.proto",
    "types/v1/types.proto",
    "vcs/v1/vcs.proto",
    "version/v1/version.proto",
];

/// On each message: what is derived for JSON is called by what [`read_as_objects`] appends.
const DERIVED_IS_OWN: &str = "#[serde(remote = \"Self\")]";

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn proto_dir() -> PathBuf {
    crate_dir().join("../../proto")
}

fn generate_internal(out: &Path) {
    let mut compiler = protox::Compiler::new([proto_dir()]).unwrap();
    compiler.include_source_info(true);
    compiler.open_files(INTERNAL).unwrap();
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .compile_fds(compiler.file_descriptor_set())
        .unwrap();
}

fn generate_public(out: &Path) {
    let mut compiler = protox::Compiler::new([proto_dir()]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(PUBLIC).unwrap();
    let descriptors = tempfile::NamedTempFile::new().unwrap();
    fs::write(descriptors.path(), compiler.encode_file_descriptor_set()).unwrap();

    let mut messages = connectrpc_build::CodeGenConfig::default();
    messages.generate_json = true;
    messages.preserve_unknown_fields = false;
    messages.file_per_package = true;
    messages.emit_register_fn = false;
    messages.generate_with_setters = false;
    let own = (".".to_owned(), DERIVED_IS_OWN.to_owned());
    messages.message_attributes.push(own);
    connectrpc_build::Config::new()
        .buffa_config(messages)
        .emit_rerun_directives(false)
        .files(&PUBLIC)
        .descriptor_set(descriptors.path())
        .out_dir(out)
        .include_file("public.rs")
        .compile()
        .unwrap();
    for file in fs::read_dir(out).unwrap() {
        read_as_objects(&file.unwrap().path());
    }
}

/// Appends the JSON forms of all messages of a file: objects and nothing else.
fn read_as_objects(file: &Path) {
    let mut text = fs::read_to_string(file).unwrap();
    let messages: Vec<String> = text
        .split(DERIVED_IS_OWN)
        .skip(1)
        .map(|message| {
            let declared = message.split_once("\npub struct ");
            let (_, declared) = declared.expect("a message is a struct of the file itself");
            let name = declared.split_once(|c: char| !c.is_alphanumeric() && c != '_');
            name.unwrap().0.to_owned()
        })
        .collect();
    for message in messages {
        text.push_str(&format!("object_in_json!({message});\n"));
    }
    fs::write(file, text).unwrap();
}

/// Every file below `dir` by its relative path.
fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(dir).unwrap().to_path_buf(), text);
            }
        }
    }
    found
}

#[test]
fn the_checked_in_code_is_what_the_proto_files_give() {
    let fresh = tempfile::tempdir().unwrap();
    generate_internal(fresh.path());
    generate_public(fresh.path());

    let fresh = files(fresh.path());
    let kept_dir = crate_dir().join("src/gen");
    if std::env::var_os("SCORIA_REGENERATE").is_some() {
        fs::remove_dir_all(&kept_dir).ok();
        for (name, text) in &fresh {
            let path = kept_dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    let kept = files(&kept_dir);
    let names = |of: &BTreeMap<PathBuf, String>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&kept), names(&fresh), "files of crates/proto/src/gen");
    for (name, text) in &fresh {
        assert!(
            kept[name] == *text,
            "crates/proto/src/gen/{} is not what proto/ gives; write it anew with \
             SCORIA_REGENERATE=1 cargo test -p scoria-proto --test generated",
            name.display()
        );
    }
}
