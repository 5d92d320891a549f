//! `docs/reference/config.md` is what the configuration's own comments and defaults say.
//!
//! `SCORIA_REGENERATE=1 cargo test -p scoria-server --test config_reference` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use scoria_server::config::Config;

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The comment of every public field of a section's file, and the page of the file itself.
fn comments(section: &str) -> (String, BTreeMap<String, String>) {
    let path = crate_dir().join(format!("src/config/{section}.rs"));
    let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut page = String::new();
    let mut fields = BTreeMap::new();
    let mut comment = String::new();
    for line in source.lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("//! ") {
            join(&mut page, text);
        } else if let Some(text) = line.strip_prefix("/// ") {
            join(&mut comment, text);
        } else if let Some(field) = line.strip_prefix("pub ").and_then(|f| f.split_once(": ")) {
            fields.insert(field.0.to_owned(), std::mem::take(&mut comment));
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    let page = page
        .split_once(": ")
        .map_or_else(|| page.clone(), |(_, says)| says.to_owned());
    (page, fields)
}

fn join(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(line);
}

fn reference() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         A setting is `section.key`. Its value comes from the highest of: its flag (`scoria server --help`),\n\
         `--set section.key=value`, the environment variable `SCORIA_SECTION__KEY`, the YAML file of\n\
         `--config` (a map of sections), its default. A key that does not exist is an error.\n\n\
         Sizes are bytes or carry `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`; lengths of time carry `ms`, `s`,\n\
         `m`, `h` or `d` and may be put together (`1h30m`). `scoria server --dump-config` shows what is in\n\
         force. This page is generated from the comments in `crates/server/src/config`.\n",
    );
    let defaults = serde_json::to_value(Config::default()).unwrap();
    for (section, keys) in defaults.as_object().unwrap() {
        let (page, mut comments) = comments(section);
        write!(out, "\n## `{section}`\n\n{}\n\n", capital(&page)).unwrap();
        out.push_str("| Key | Default | Meaning |\n|---|---|---|\n");
        for (key, default) in keys.as_object().unwrap() {
            let comment = comments
                .remove(key)
                .filter(|comment| !comment.is_empty())
                .unwrap_or_else(|| panic!("{section}.{key} has no comment"));
            let default = match default {
                serde_json::Value::String(text) if text.is_empty() => "empty".to_owned(),
                serde_json::Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            writeln!(out, "| `{section}.{key}` | {default} | {comment} |").unwrap();
        }
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(chars).collect()
}

#[test]
fn the_reference_is_what_the_sources_say() {
    let path = crate_dir().join("../../docs/reference/config.md");
    let fresh = reference();
    if std::env::var_os("SCORIA_REGENERATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == fresh,
        "docs/reference/config.md is not what the sources say; write it anew with \
         SCORIA_REGENERATE=1 cargo test -p scoria-server --test config_reference"
    );
}
