//! The layers of the configuration, and how they become one.
//!
//! The default configuration, as JSON, is the schema: its keys are those that exist, and the kind
//! of a default value says how the text of an environment variable or of `--set` is read.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Config;
use super::distance::nearest;
use super::limit_names;

/// What each layer says, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The file and its text.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those that are not settings are passed over.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`
    pub sets: Vec<String>,
    /// A flag's name, the key it stands for, and its value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin}: {reason}")]
    Unreadable { origin: String, reason: String },
    #[error("{origin}: there is no setting {key}{hint}")]
    UnknownKey {
        origin: String,
        key: String,
        hint: String,
    },
    #[error("{origin}: {key}: {reason}")]
    Value {
        origin: String,
        key: String,
        reason: String,
    },
}

const ENVIRONMENT_PREFIX: &str = "SCORIA_";

/// A value as its layer gives it.
enum Given {
    Text(String),
    Yaml(Value),
}

impl Layers {
    /// Lays them over the defaults, highest last.
    ///
    /// # Errors
    /// Names the layer and the key; for a key that does not exist, the nearest one that does.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut merged = Merged::new()?;
        if let Some((path, text)) = &self.file {
            merged.file(&path.display().to_string(), text)?;
        }
        for (name, value) in &self.environment {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            if let Some((section, key)) = rest.split_once("__") {
                let (section, key) = (section.to_lowercase(), key.to_lowercase());
                let given = Given::Text(value.clone());
                merged.assign(
                    &format!("environment variable {name}"),
                    &section,
                    &key,
                    given,
                )?;
            }
        }
        for set in &self.sets {
            let origin = format!("--set {set}");
            let (path, value) = set.split_once('=').ok_or_else(|| ConfigError::Unreadable {
                origin: origin.clone(),
                reason: "write section.key=value".to_owned(),
            })?;
            merged.assign_path(&origin, path, value)?;
        }
        for (flag, path, value) in &self.flags {
            merged.assign_path(flag, path, value)?;
        }
        merged.finish()
    }
}

struct Merged {
    /// Section to key to default.
    schema: Map<String, Value>,
    /// What was assigned, as far as it got.
    values: Map<String, Value>,
}

impl Merged {
    fn new() -> Result<Self, ConfigError> {
        let schema =
            serde_json::to_value(Config::default()).map_err(|e| ConfigError::Unreadable {
                origin: "defaults".to_owned(),
                reason: e.to_string(),
            })?;
        let Value::Object(schema) = schema else {
            return Err(ConfigError::Unreadable {
                origin: "defaults".to_owned(),
                reason: "no sections".to_owned(),
            });
        };
        Ok(Self {
            schema,
            values: Map::new(),
        })
    }

    fn file(&mut self, origin: &str, text: &str) -> Result<(), ConfigError> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let unreadable = |reason: String| ConfigError::Unreadable {
            origin: origin.to_owned(),
            reason,
        };
        let sections: Option<Map<String, Value>> =
            serde_saphyr::from_str(text).map_err(|e| unreadable(e.to_string()))?;
        for (section, keys) in sections.unwrap_or_default() {
            match keys {
                Value::Null => {
                    self.section(origin, &section)?;
                }
                Value::Object(keys) => {
                    self.section(origin, &section)?;
                    for (key, value) in keys {
                        self.assign(origin, &section, &key, Given::Yaml(value))?;
                    }
                }
                _ => {
                    self.section(origin, &section)?;
                    return Err(unreadable(format!("{section} is a section, not a value")));
                }
            }
        }
        Ok(())
    }

    fn assign_path(&mut self, origin: &str, path: &str, text: &str) -> Result<(), ConfigError> {
        let Some((section, key)) = path.trim().split_once('.') else {
            return Err(self.unknown(origin, path));
        };
        self.assign(origin, section, key, Given::Text(text.to_owned()))
    }

    fn assign(
        &mut self,
        origin: &str,
        section: &str,
        key: &str,
        given: Given,
    ) -> Result<(), ConfigError> {
        let resolved = resolve(section, key, given).map_err(|reason| ConfigError::Value {
            origin: origin.to_owned(),
            key: format!("{section}.{key}"),
            reason,
        })?;
        let Some((key, given)) = resolved else {
            return Ok(());
        };
        let key = key.as_str();
        let default = self
            .section(origin, section)?
            .get(key)
            .ok_or_else(|| self.unknown(origin, &format!("{section}.{key}")))?;
        let value = match given {
            Given::Yaml(value) => value,
            Given::Text(text) => read_text(default, text),
        };
        // Read alone on top of the defaults, so that an error is this key's and nobody else's.
        let mut alone = Map::new();
        alone.insert(key.to_owned(), value.clone());
        let mut alone_in_section = Map::new();
        alone_in_section.insert(section.to_owned(), Value::Object(alone));
        serde_json::from_value::<Config>(Value::Object(alone_in_section)).map_err(|e| {
            ConfigError::Value {
                origin: origin.to_owned(),
                key: format!("{section}.{key}"),
                reason: e.to_string(),
            }
        })?;
        let keys = self
            .values
            .entry(section)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(keys) = keys {
            keys.insert(key.to_owned(), value);
        }
        Ok(())
    }

    fn section(&self, origin: &str, section: &str) -> Result<&Map<String, Value>, ConfigError> {
        self.schema
            .get(section)
            .and_then(Value::as_object)
            .ok_or_else(|| self.unknown(origin, section))
    }

    /// The error about a path that does not exist.
    fn unknown(&self, origin: &str, path: &str) -> ConfigError {
        let keys: Vec<String> = self
            .schema
            .iter()
            .flat_map(|(section, keys)| {
                let keys = keys.as_object().into_iter().flat_map(Map::keys);
                keys.map(move |key| format!("{section}.{key}"))
            })
            .collect();
        let key = path.rsplit('.').next().unwrap_or(path);
        let meant = if path.contains('.') {
            // A key that exists elsewhere was put in the wrong section.
            let elsewhere = keys
                .iter()
                .map(String::as_str)
                .find(|k| k.ends_with(&format!(".{key}")));
            elsewhere.or_else(|| nearest(path, keys.iter().map(String::as_str)))
        } else {
            nearest(path, self.schema.keys().map(String::as_str))
        };
        let hint = match meant {
            Some(meant) => format!("; did you mean {meant}?"),
            None => "; docs/reference/config.md lists all of them".to_owned(),
        };
        ConfigError::UnknownKey {
            origin: origin.to_owned(),
            key: path.to_owned(),
            hint,
        }
    }

    fn finish(self) -> Result<Config, ConfigError> {
        serde_json::from_value(Value::Object(self.values)).map_err(|e| ConfigError::Unreadable {
            origin: "configuration".to_owned(),
            reason: e.to_string(),
        })
    }
}

/// A limit may be given under other names than its key; `None` says that there is nothing to set.
fn resolve(section: &str, key: &str, given: Given) -> Result<Option<(String, Given)>, String> {
    if section != "limits" {
        return Ok(Some((key.to_owned(), given)));
    }
    Ok(match given {
        Given::Text(text) => match limit_names::resolve(key, Value::String(text))? {
            Some((key, Value::String(text))) => Some((key, Given::Text(text))),
            other => other.map(|(key, value)| (key, Given::Yaml(value))),
        },
        Given::Yaml(value) => {
            limit_names::resolve(key, value)?.map(|(key, value)| (key, Given::Yaml(value)))
        }
    })
}

/// A text as a value of the default's kind. One that does not fit stays a text, and reading it as
/// the setting's type says what is wrong.
fn read_text(default: &Value, text: String) -> Value {
    let read = match default {
        Value::Bool(_) => text.parse().ok().map(Value::Bool),
        Value::Number(_) => text.parse().ok().map(Value::Number),
        // Lists and maps are written as in the file; a list of names may also be a plain text.
        Value::Array(_) | Value::Object(_) | Value::Null => serde_saphyr::from_str(&text).ok(),
        Value::String(_) => None,
    };
    read.unwrap_or(Value::String(text))
}
