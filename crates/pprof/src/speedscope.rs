//! Speedscope's JSON: named frames, and profiles of samples with weights or of opening and closing
//! events.
//!
//! ```text
//! {"$schema": "…/file-format-schema.json",
//!  "shared": {"frames": [{"name": "main"}, {"name": "work"}]},
//!  "profiles": [{"type": "sampled", "name": "cpu", "unit": "seconds", "startValue": 0,
//!                "samples": [[0, 1]], "weights": [0.25]}]}
//! ```
//!
//! Profiles alike in name, unit, type and start are threads of one and are added up.
//!
//! # Invariants
//! - Weights are converted as they are written, in decimal: the values of a profile add up to its
//!   weights, to less than one unit.
//! - Samples and events stay text until they are added: a file is never held a second time.
//!
//! # What it must not know
//! Under which profile type a unit is stored.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::decimal::{Decimal, rounded};
use crate::stacks::{StackError, Stacks};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

/// Why a body is not such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpeedscopeError {
    #[error("the body is not a speedscope file: {0}")]
    Json(String),
    #[error("the file's \"$schema\" is {found:?}; {SCHEMA:?} is what can be read")]
    Schema { found: String },
    #[error("profile {profile}: {problem}")]
    Profile { profile: usize, problem: String },
    #[error(transparent)]
    Stack(#[from] StackError),
}

/// In what a profile's weights are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    None,
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    Bytes,
}

impl Unit {
    /// As the file writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nanoseconds => "nanoseconds",
            Self::Microseconds => "microseconds",
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }

    /// The power of ten that turns it into nanoseconds, if it is a time.
    pub const fn nanoseconds_power(self) -> Option<i32> {
        match self {
            Self::None | Self::Bytes => None,
            Self::Nanoseconds => Some(0),
            Self::Microseconds => Some(3),
            Self::Milliseconds => Some(6),
            Self::Seconds => Some(9),
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        const ALL: [Unit; 6] = [
            Unit::None,
            Unit::Nanoseconds,
            Unit::Microseconds,
            Unit::Milliseconds,
            Unit::Seconds,
            Unit::Bytes,
        ];
        ALL.into_iter().find(|unit| unit.name() == name)
    }
}

/// What weights become: `weight × 10^power × factor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub power: i32,
    pub factor: i64,
}

/// A file, checked as far as its shape goes.
#[derive(Debug)]
pub struct Speedscope<'a> {
    frames: Vec<Frame<'a>>,
    profiles: Vec<Profile<'a>>,
}

/// Profiles of a file that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub unit: Unit,
    members: Vec<usize>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(rename = "$schema", default, borrow)]
    schema: Cow<'a, str>,
    #[serde(borrow)]
    shared: Shared<'a>,
    #[serde(borrow)]
    profiles: Vec<Profile<'a>>,
}

#[derive(Deserialize)]
struct Shared<'a> {
    #[serde(borrow)]
    frames: Vec<Frame<'a>>,
}

#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    unit: Cow<'a, str>,
    #[serde(default)]
    start_value: Number,
    #[serde(default)]
    end_value: Number,
    #[serde(default, borrow)]
    samples: Option<&'a RawValue>,
    #[serde(default, borrow)]
    weights: Option<&'a RawValue>,
    #[serde(default, borrow)]
    events: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: EventKind,
    at: Number,
    frame: u32,
}

#[derive(Deserialize, PartialEq, Eq)]
enum EventKind {
    #[serde(rename = "O")]
    Open,
    #[serde(rename = "C")]
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Number(Decimal);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let number = Decimal::parse(raw.get());
        number
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("{:.40} is not a number", raw.get())))
    }
}

impl<'a> Speedscope<'a> {
    /// Reads the shape of a file.
    ///
    /// # Errors
    /// It is not JSON of this shape, has another schema, or a type or unit that does not exist.
    pub fn parse(body: &'a [u8]) -> Result<Self, SpeedscopeError> {
        let file: File<'a> =
            serde_json::from_slice(body).map_err(|e| SpeedscopeError::Json(e.to_string()))?;
        if file.schema != SCHEMA {
            return Err(SpeedscopeError::Schema {
                found: file.schema.chars().take(128).collect(),
            });
        }
        for (profile, at) in file.profiles.iter().zip(1..) {
            if !matches!(&*profile.kind, "sampled" | "evented") {
                let problem = format!(
                    "its type {:.64?} is neither \"sampled\" nor \"evented\"",
                    profile.kind
                );
                return Err(problem_of(at, problem));
            }
            if Unit::of_name(&profile.unit).is_none() {
                let problem = format!(
                    "its unit {:.64?} is none of none, nanoseconds, microseconds, milliseconds, seconds, bytes",
                    profile.unit
                );
                return Err(problem_of(at, problem));
            }
        }
        Ok(Self {
            frames: file.shared.frames,
            profiles: file.profiles,
        })
    }

    /// The profiles to store, in the order in which they first stand.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (at, profile) in self.profiles.iter().enumerate() {
            let alike = |group: &&mut Group| {
                let first = &self.profiles[group.members[0]];
                first.name == profile.name
                    && first.unit == profile.unit
                    && first.kind == profile.kind
                    && first.start_value.0.to_fixed(0) == profile.start_value.0.to_fixed(0)
            };
            if let Some(group) = groups.iter_mut().find(alike) {
                group.members.push(at);
                continue;
            }
            groups.push(Group {
                name: profile.name.clone().into_owned(),
                unit: Unit::of_name(&profile.unit).unwrap_or(Unit::None),
                members: vec![at],
            });
        }
        groups
    }

    /// Adds the stacks of a group.
    ///
    /// # Errors
    /// Samples and weights are not of a number, an index points outside of the frames, a weight is
    /// negative, or events do not fit together.
    pub fn fill(
        &self,
        group: &Group,
        scale: Scale,
        into: &mut Stacks,
    ) -> Result<(), SpeedscopeError> {
        let mut fill = Fill {
            frames: &self.frames,
            known: Vec::new(),
            stack: Vec::new(),
            scale,
            total: 0,
            given: 0,
            into,
        };
        for &at in &group.members {
            let profile = &self.profiles[at];
            let filled = match &*profile.kind {
                "evented" => fill.events(profile),
                _ => fill.samples(profile),
            };
            filled.map_err(|problem| match problem {
                Problem::Stack(error) => SpeedscopeError::Stack(error),
                Problem::Text(text) => problem_of(at + 1, text),
            })?;
        }
        Ok(())
    }
}

const fn problem_of(profile: usize, problem: String) -> SpeedscopeError {
    SpeedscopeError::Profile { profile, problem }
}

/// What is wrong inside of a profile.
enum Problem {
    Text(String),
    Stack(StackError),
}

impl From<StackError> for Problem {
    fn from(error: StackError) -> Self {
        Self::Stack(error)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

struct Fill<'f, 's> {
    frames: &'f [Frame<'f>],
    /// Location id of each frame, 0 if it has none yet.
    known: Vec<u64>,
    /// The stack at hand, root first.
    stack: Vec<u64>,
    scale: Scale,
    /// Billionths of what was weighed so far, and what of it was given out as values.
    total: i128,
    given: i64,
    into: &'s mut Stacks,
}

impl Fill<'_, '_> {
    fn samples(&mut self, profile: &Profile<'_>) -> Result<(), Problem> {
        let mut samples = Scan::array(profile.samples, "samples")?;
        let mut weights = Scan::array(profile.weights, "weights")?;
        for number in 1_u64.. {
            match (samples.next(), weights.next()) {
                (true, true) => {}
                (false, false) => return Ok(()),
                _ => {
                    let missing = "it has not as many weights as samples";
                    return Err(missing.into());
                }
            }
            let wrong = |what: &str| Problem::Text(format!("sample {number}: {what}"));
            self.stack.clear();
            if !samples.open() {
                return Err(wrong("it is not an array of frame indexes"));
            }
            while samples.next() {
                let index = samples.token().parse().ok();
                let index = index.ok_or_else(|| wrong("it is not an array of frame indexes"))?;
                let frame = self.frame(index)?;
                self.stack.push(frame);
            }
            let weight = Decimal::parse(weights.token());
            let weight = weight.ok_or_else(|| wrong("its weight is not a number"))?;
            let weight = self.scaled(weight)?;
            if weight < 0 {
                return Err(wrong("its weight is negative"));
            }
            self.add(weight)?;
        }
        Ok(())
    }

    fn events(&mut self, profile: &Profile<'_>) -> Result<(), Problem> {
        let text = profile.events.map_or("[]", RawValue::get);
        let events: Vec<Event> = serde_json::from_str(text)
            .map_err(|error| Problem::Text(format!("its events: {error}")))?;
        self.stack.clear();
        let mut last = self.scaled(profile.start_value.0)?;
        for (event, number) in events.iter().zip(1_u64..) {
            let wrong = |what: &str| Problem::Text(format!("event {number}: {what}"));
            let at = self.scaled(event.at.0)?;
            if at < last {
                return Err(wrong("it is earlier than the one before it"));
            }
            if !self.stack.is_empty() && at > last {
                self.add(at - last)?;
            }
            last = at;
            let frame = self.frame(event.frame)?;
            if event.kind == EventKind::Open {
                self.stack.push(frame);
            } else if self.stack.pop() != Some(frame) {
                return Err(wrong(
                    "it closes a frame that is not the innermost open one",
                ));
            }
        }
        // Frames that were never closed are open to the end.
        let end = self.scaled(profile.end_value.0)?;
        if !self.stack.is_empty() && end > last {
            self.add(end - last)?;
        }
        Ok(())
    }

    fn frame(&mut self, index: u32) -> Result<u64, Problem> {
        let at = index as usize;
        let Some(frame) = self.frames.get(at) else {
            let n = self.frames.len();
            let problem = format!("the frame index {index} is not below the {n} frames");
            return Err(Problem::Text(problem));
        };
        if self.known.is_empty() {
            self.known = vec![0; self.frames.len()];
        }
        if self.known[at] == 0 {
            self.known[at] = self.into.frame(frame.name.as_bytes())?;
        }
        Ok(self.known[at])
    }

    /// In billionths of what values are given in.
    fn scaled(&self, number: Decimal) -> Result<i128, Problem> {
        let fixed = number.to_fixed(self.scale.power);
        let fixed = fixed.and_then(|fixed| fixed.checked_mul(i128::from(self.scale.factor)));
        fixed.ok_or_else(|| "a number of it does not fit in 64 bits".into())
    }

    /// Weighs the stack at hand. What rounding takes from a value the next one gets.
    fn add(&mut self, weight: i128) -> Result<(), Problem> {
        let overflow = || Problem::from("its weights overflow 64 bits");
        self.total = self.total.checked_add(weight).ok_or_else(overflow)?;
        let given = rounded(self.total).ok_or_else(overflow)?;
        let value = given - self.given;
        self.given = given;
        Ok(self.into.add_value(&self.stack, value)?)
    }
}

/// Walks over an array in text that is known to be JSON.
struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn array(raw: Option<&'a RawValue>, name: &str) -> Result<Self, Problem> {
        let mut scan = Self {
            rest: raw.map_or("", RawValue::get),
        };
        if scan.open() {
            return Ok(scan);
        }
        Err(Problem::Text(format!("it has no array \"{name}\"")))
    }

    /// Steps into an array if one begins here.
    fn open(&mut self) -> bool {
        self.skip(|byte| byte == b'[')
    }

    /// Whether another element follows; if not, steps out of the array.
    fn next(&mut self) -> bool {
        if self.skip(|byte| byte == b']') || self.rest.is_empty() {
            return false;
        }
        self.skip(|byte| byte == b',');
        self.rest = self.rest.trim_ascii_start();
        true
    }

    /// The text of a number, or whatever stands there instead.
    fn token(&mut self) -> &'a str {
        let ends = |byte: u8| matches!(byte, b',' | b']' | b'[') || byte.is_ascii_whitespace();
        let end = self.rest.bytes().position(ends).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    fn skip(&mut self, is_it: impl Fn(u8) -> bool) -> bool {
        self.rest = self.rest.trim_ascii_start();
        match self.rest.as_bytes().first() {
            Some(&byte) if is_it(byte) => {
                self.rest = &self.rest[1..];
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::tests::{stacks, totals};

    const NANOSECONDS: Scale = Scale {
        power: 9,
        factor: 1,
    };

    fn file(profiles: &str) -> String {
        format!(
            r#"{{"profiles": [{profiles}], "$schema": "{SCHEMA}", "x": [{{}}],
                "shared": {{"frames": [{{"name":"a"}},{{"name":"b","line":3}},{{"name":"c\u0041"}}]}}}}"#
        )
    }

    fn sampled(samples: &str, weights: &str) -> String {
        let head = r#""type":"sampled","name":"one","unit":"seconds","startValue":0"#;
        format!(r#"{{{head},"samples":{samples},"weights":{weights}}}"#)
    }

    fn evented(events: &[(&str, &str, u32)], end: u32) -> String {
        let events = events.iter();
        let events: Vec<String> = events
            .map(|(kind, at, frame)| format!(r#"{{"type":"{kind}","at":{at},"frame":{frame}}}"#))
            .collect();
        let head = r#""type":"evented","unit":"seconds","startValue":1700000000"#;
        format!(
            r#"{{{head},"endValue":{end},"events":[{}]}}"#,
            events.join(",")
        )
    }

    fn read(profiles: &str) -> Result<Vec<String>, SpeedscopeError> {
        let text = file(profiles);
        let file = Speedscope::parse(text.as_bytes())?;
        let mut all = Vec::new();
        for group in file.groups() {
            let mut into = stacks(1);
            file.fill(&group, NANOSECONDS, &mut into)?;
            all.extend(totals(into));
        }
        Ok(all)
    }

    #[test]
    fn samples_with_weights() {
        let one = sampled("[ [0, 1],[0,2] , [0,1],[]]", "[1, 0.5,1e-9, 2 ]");
        assert_eq!(
            read(&one).unwrap(),
            ["= 2000000000", "a;b = 1000000001", "a;cA = 500000000"]
        );
        assert_eq!(read(&sampled("[]", "[]")).unwrap(), Vec::<String>::new());
        assert_eq!(read("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn rounding_loses_nothing_of_the_sum() {
        let samples = vec!["[0]"; 1000].join(",");
        let weights = vec!["0.0000000014"; 1000].join(",");
        let one = sampled(&format!("[{samples}]"), &format!("[{weights}]"));
        assert_eq!(read(&one).unwrap(), ["a = 1400"]);
    }

    #[test]
    fn events_weigh_the_stack_that_is_open() {
        let one = evented(
            &[
                ("O", "1700000000.000000001", 0),
                ("O", "1700000000.000000003", 1),
                ("C", "1700000000.000000007", 1),
                ("O", "1700000000.000000007", 2),
                ("C", "1700000000.000000017", 2),
                ("C", "1700000000.000000018", 0),
                ("O", "1700000001", 0),
            ],
            1_700_000_003,
        );
        let expected = ["a = 2000000003", "a;b = 4", "a;cA = 10"];
        assert_eq!(read(&one).unwrap(), expected);
    }

    #[test]
    fn profiles_alike_are_one() {
        let one = sampled("[[0]]", "[1]");
        let other = one.replace("\"startValue\":0", "\"startValue\":7");
        let text = file(&format!("{one},{other},{}", one.replace(":0,", ":0.0,")));
        let file = Speedscope::parse(text.as_bytes()).unwrap();
        let groups = file.groups();
        let members: Vec<&[usize]> = groups.iter().map(|group| &group.members[..]).collect();
        assert_eq!(members, [&[0, 2][..], &[1]]);
        assert_eq!((&*groups[0].name, groups[0].unit), ("one", Unit::Seconds));
    }

    #[test]
    fn profiles_that_differ_in_name_unit_or_type_stay_apart() {
        let one = sampled("[[0]]", "[1]");
        let events = one.replace("\"sampled\"", "\"evented\"");
        for other in [
            one.replace("\"one\"", "\"two\""),
            one.replace("seconds", "milliseconds"),
            events,
        ] {
            let text = file(&format!("{one},{other},{one}"));
            let file = Speedscope::parse(text.as_bytes()).unwrap();
            let groups = file.groups();
            let members: Vec<&[usize]> = groups.iter().map(|group| &group.members[..]).collect();
            assert_eq!(members, [&[0, 2][..], &[1]], "{other}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_place() {
        let table = [
            (
                sampled("[[3]]", "[1]"),
                "profile 1: the frame index 3 is not below the 3 frames",
            ),
            (sampled("[[0]]", "[]"), "not as many weights"),
            (sampled("[]", "[1]"), "not as many weights"),
            (sampled("[[0],0]", "[1,1]"), "sample 2: it is not an array"),
            (sampled("[[\"0\"]]", "[1]"), "sample 1: it is not an array"),
            (sampled("[[-1]]", "[1]"), "sample 1: it is not an array"),
            (sampled("[[[0]]]", "[1]"), "sample 1: it is not an array"),
            (sampled("[[0]]", "[-1]"), "sample 1: its weight is negative"),
            (sampled("[[0]]", "[null]"), "its weight is not a number"),
            (sampled("[[0]]", "[1e40]"), "does not fit"),
            (sampled("[[0]]", "[1e20]"), "overflow"),
            (sampled("{}", "[1]"), "no array \"samples\""),
            (
                evented(&[("O", "1700000000", 0), ("C", "1700000001", 1)], 0),
                "event 2: it closes",
            ),
            (evented(&[("C", "1700000000", 0)], 0), "event 1: it closes"),
            (evented(&[("O", "1", 0)], 0), "event 1: it is earlier"),
            (
                evented(&[("X", "1700000000", 0)], 0),
                "its events: unknown variant",
            ),
            (
                sampled("[]", "[]").replace("seconds", "hours"),
                "its unit \"hours\"",
            ),
            (
                sampled("[]", "[]").replace("sampled", "flat"),
                "its type \"flat\"",
            ),
            ("1".to_owned(), "not a speedscope file"),
        ];
        for (profiles, problem) in table {
            let error = read(&profiles).unwrap_err().to_string();
            assert!(error.contains(problem), "{profiles}: {error}");
        }
        let other = file("").replace(SCHEMA, "https://example.org");
        let error = Speedscope::parse(other.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("example.org"), "{error}");
        assert!(Speedscope::parse(b"{}").is_err());
        assert!(Speedscope::parse(&[0xff]).is_err());
    }
}
