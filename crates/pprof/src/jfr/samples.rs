//! The samples of one chunk: from its events and constants to rows of the whole recording.
//!
//! # Invariants
//! - A constant is decoded when an event first needs it, and then no more in its chunk.
//! - A frame whose method is not in the recording is kept as an unknown one; a sample whose
//!   stacktrace is not is left out and counted.
//!
//! # What it must not know
//! Other chunks: keys of constants end with theirs.

use std::borrow::Cow;

use scoria_model::DiscardReason;

use super::chunk::{Chunk, Event};
use super::constants::{Constants, Pool};
use super::cursor::Text;
use super::error::JfrError;
use super::frames::Frame;
use super::kinds::{EventKind, Field, Kind};
use super::layout::{Layout, Value};
use super::metadata::Metadata;
use super::names;
use super::recording::{Tag, Totals};
use super::rows::{Amount, Row};

/// Frames in one stacktrace; JVMs stop at 2048 unless they are told to go on.
const FRAMES_MAX: usize = 1 << 16;
/// Of the setting that says what was sampled.
const EVENT_CHARS_MAX: usize = 64;
/// The name of a method that is not in the recording.
const UNKNOWN: &str = "[unknown]";
/// Copying is no reading: a few bytes of names for each byte of a recording are many.
const STEPS_PER_NAME_BYTE: u64 = 8;
/// Marks a constant that nobody has asked for yet, and one that cannot be decoded.
const UNRESOLVED: u32 = u32::MAX;
const MISSING: u32 = u32::MAX - 1;

/// What a sampled thread was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unresolved,
    Runnable,
    Sleeping,
    Other,
}

type Slots<'a> = [Value<'a>; Field::NAMES.len()];

/// Reads one chunk into the totals of its recording.
pub(crate) struct ChunkReader<'r, 'a, 'w> {
    totals: &'r mut Totals,
    chunk: &'r Chunk<'a, 'w>,
    constants: &'r Constants,
    /// By pool; `None` if the chunk has no such class.
    layouts: [Option<Layout>; Pool::ALL.len()],
    frame: Option<Layout>,
    events: Vec<(u64, EventKind, Layout)>,
    /// Number in the recording, by number of the constant.
    stacks: Vec<u32>,
    method_names: Vec<u32>,
    states: Vec<State>,
    held: u64,
    scratch: (Vec<u32>, String),
}

impl<'r, 'a, 'w> ChunkReader<'r, 'a, 'w> {
    pub(crate) fn new(
        totals: &'r mut Totals,
        chunk: &'r Chunk<'a, 'w>,
        metadata: &'r Metadata<'a>,
        constants: &'r Constants,
    ) -> Result<Self, JfrError> {
        let at = chunk.at(0).at();
        let mut layouts: [Option<Layout>; Pool::ALL.len()] = Default::default();
        for pool in Pool::ALL {
            if let Some((place, _)) = metadata.named(pool.class()) {
                let layout = Layout::of(metadata, place, pool.fields(), at)?;
                layouts[pool as usize] = Some(layout);
            }
        }
        let frame = element_of(metadata, Pool::Stacktraces.class(), "frames");
        let frame = frame.map(|place| Layout::of(metadata, place, &["method", "lineNumber"], at));
        let mut events = Vec::new();
        for place in 0..metadata.n_classes() {
            let class = metadata.class(place);
            if let Some(kind) = EventKind::of_class(&class.name) {
                let layout = Layout::of(metadata, place, &Field::NAMES, at)?;
                events.push((class.id, kind, layout));
            }
        }
        let numbers = [Pool::Stacktraces, Pool::Methods].map(|pool| constants.len(pool));
        let n_states = constants.len(Pool::ThreadStates);
        let held = (4 * numbers.iter().sum::<usize>() + n_states) as u64;
        chunk.at(0).allowance().hold(held)?;
        let [stacks, method_names] = numbers.map(|n| vec![UNRESOLVED; n]);
        Ok(Self {
            totals,
            chunk,
            constants,
            layouts,
            frame: frame.transpose()?,
            events,
            stacks,
            method_names,
            states: vec![State::Unresolved; n_states],
            held,
            scratch: Default::default(),
        })
    }

    /// Bytes of memory that it has taken from the allowance for itself.
    pub(crate) const fn held_bytes(&self) -> u64 {
        self.held
    }

    /// Finds out what was sampled. Profilers write it into the first chunk of a recording only, so
    /// what an earlier chunk said holds on.
    pub(crate) fn settings(&mut self) -> Result<(), JfrError> {
        let chunk = self.chunk;
        chunk.each(|event| {
            let Some((EventKind::Setting, slots)) = self.read(event)? else {
                return Ok(());
            };
            if self.text_of(Pool::Texts, slots[Field::Name as usize])? != "event" {
                return Ok(());
            }
            let value = self.text_of(Pool::Texts, slots[Field::Value as usize])?;
            self.totals.is_wall = value == "wall";
            if self.totals.event.is_empty() {
                self.totals.event = value.chars().take(EVENT_CHARS_MAX).collect();
            }
            Ok(())
        })
    }

    pub(crate) fn samples(&mut self) -> Result<(), JfrError> {
        let chunk = self.chunk;
        chunk.each(|event| match self.read(event)? {
            None | Some((EventKind::Setting, _)) => Ok(()),
            Some((kind, slots)) => self.sample(kind, &slots),
        })
    }

    /// What stands in an event, if it is one that is read.
    fn read(&self, mut event: Event<'a, 'w>) -> Result<Option<(EventKind, Slots<'a>)>, JfrError> {
        let mut events = self.events.iter();
        let Some((_, kind, layout)) = events.find(|(id, ..)| *id == event.kind) else {
            return Ok(None);
        };
        let mut slots = Slots::default();
        layout.read(&mut event.fields, &mut slots)?;
        Ok(Some((*kind, slots)))
    }

    fn sample(&mut self, event: EventKind, slots: &Slots<'a>) -> Result<(), JfrError> {
        self.totals.n_events += 1;
        let number = |field: Field| slots[field as usize].number();
        let Some(stack) = self.stack(number(Field::Stacktrace))? else {
            self.totals.dropped.add(DiscardReason::BrokenReference, 1);
            return Ok(());
        };
        let allowance = self.chunk.at(0).allowance();
        let tag = Tag {
            context: number(Field::Context),
            span: number(Field::Span),
            span_name: number(Field::SpanName),
        };
        let tag = self.totals.tag(tag, allowance)?;
        let state = self.state(slots[Field::State as usize])?;
        let is_wall = self.totals.is_wall;
        let mut add = |kind: Kind, count, sum| {
            if count < 0 || sum < 0 {
                self.totals.dropped.add(DiscardReason::NegativeValue, 1);
                return Ok(());
            }
            let amount = Amount { count, sum };
            let rows = &mut self.totals.rows[kind as usize];
            rows.add(Row { tag, stack, amount }, allowance)
        };
        match event {
            EventKind::Setting => {}
            EventKind::ExecutionSample => {
                if state != State::Sleeping {
                    add(Kind::Cpu, 1, 0)?;
                }
                if is_wall {
                    add(Kind::Wall, 1, 0)?;
                }
            }
            EventKind::WallClockSample => {
                let count = match slots[Field::Samples as usize] {
                    Value::Number(count) => count as i64,
                    _ => 1,
                };
                if is_wall && state == State::Runnable {
                    add(Kind::Cpu, count, 0)?;
                }
                add(Kind::Wall, count, 0)?;
            }
            EventKind::Sum(kind, field) => {
                let sum = number(field) as i64;
                let sum = match field {
                    Field::Duration => self.chunk.nanoseconds(sum),
                    _ => sum,
                };
                add(kind, 1, sum)?;
            }
        }
        Ok(())
    }

    fn state(&mut self, state: Value<'a>) -> Result<State, JfrError> {
        let Value::Number(key) = state else {
            return Ok(State::Other);
        };
        let Some((number, _)) = self.constants.find(Pool::ThreadStates, key) else {
            return Ok(State::Other);
        };
        if self.states[number] == State::Unresolved {
            self.states[number] = match &*self.text_of(Pool::ThreadStates, state)? {
                "STATE_RUNNABLE" => State::Runnable,
                "STATE_SLEEPING" => State::Sleeping,
                _ => State::Other,
            };
        }
        Ok(self.states[number])
    }

    /// The number of a stacktrace in the recording; `None` if the chunk does not have it.
    fn stack(&mut self, key: u64) -> Result<Option<u32>, JfrError> {
        let Some((number, _)) = self.constants.find(Pool::Stacktraces, key) else {
            return Ok(None);
        };
        if self.stacks[number] == UNRESOLVED {
            self.stacks[number] = self.decode_stack(key)?.unwrap_or(MISSING);
        }
        let stack = self.stacks[number];
        Ok((stack != MISSING).then_some(stack))
    }

    fn decode_stack(&mut self, key: u64) -> Result<Option<u32>, JfrError> {
        let mut slots = [Value::Absent];
        self.constant(Pool::Stacktraces, key, &mut slots)?;
        let [Value::ArrayAt(at)] = slots else {
            return Ok(None);
        };
        let Some(frame) = self.frame.take() else {
            return Ok(None);
        };
        let mut frames = std::mem::take(&mut self.scratch.0);
        frames.clear();
        let decoded = self.decode_frames(at, &frame, &mut frames);
        self.frame = Some(frame);
        let allowance = self.chunk.at(at).allowance();
        let stack = decoded.and_then(|()| self.totals.frames.add_stack(&frames, allowance));
        self.scratch.0 = frames;
        stack.map(Some)
    }

    fn decode_frames(
        &mut self,
        at: usize,
        layout: &Layout,
        frames: &mut Vec<u32>,
    ) -> Result<(), JfrError> {
        let mut cursor = self.chunk.at(at);
        let n = cursor.count(layout.bytes_min())?;
        if n > FRAMES_MAX {
            return Err(JfrError::TooMany {
                at,
                what: "frames in one stacktrace",
                limit: FRAMES_MAX,
            });
        }
        for _ in 0..n {
            let mut slots = [Value::Absent; 2];
            layout.read(&mut cursor, &mut slots)?;
            let [method, line] = slots.map(Value::number);
            let name = self.method_name(method)?;
            let line = u32::try_from(line as i32).unwrap_or_default();
            let frame = Frame { name, line };
            frames.push(self.totals.frames.add_frame(frame, cursor.allowance())?);
        }
        Ok(())
    }

    /// The number of a method's name in the recording.
    fn method_name(&mut self, key: u64) -> Result<u32, JfrError> {
        let allowance = self.chunk.at(0).allowance();
        let Some((number, _)) = self.constants.find(Pool::Methods, key) else {
            return self.totals.frames.add_name(UNKNOWN, allowance);
        };
        if self.method_names[number] == UNRESOLVED {
            let mut slots = [Value::Absent; 2];
            self.constant(Pool::Methods, key, &mut slots)?;
            let [method, class] = slots;
            let mut slots = [Value::Absent];
            self.constant(Pool::Classes, class.number(), &mut slots)?;
            let class = self.text_of(Pool::Symbols, slots[0])?;
            let method = self.text_of(Pool::Symbols, method)?;
            let mut name = std::mem::take(&mut self.scratch.1);
            name.clear();
            names::append(&mut name, &class, &method);
            // Many methods can share a long name.
            allowance.step(STEPS_PER_NAME_BYTE * name.len() as u64, 0)?;
            self.method_names[number] = self.totals.frames.add_name(&name, allowance)?;
            self.scratch.1 = name;
        }
        Ok(self.method_names[number])
    }

    /// The text that a field holds, itself or as the key of a constant of `pool`; empty if it holds
    /// none.
    fn text_of(&self, pool: Pool, value: Value<'a>) -> Result<Cow<'a, str>, JfrError> {
        let mut slots = [value];
        if let Value::Number(key) = value {
            slots = [Value::Absent];
            self.constant(pool, key, &mut slots)?;
        }
        if let [Value::Text(Text::Constant(key))] = slots {
            self.constant(Pool::Texts, key, &mut slots)?;
        }
        Ok(match slots {
            [Value::Text(text)] => text.decode(),
            _ => Cow::Borrowed(""),
        })
    }

    /// Reads the fields of a constant; leaves `slots` as they are if there is none with the key.
    fn constant(&self, pool: Pool, key: u64, slots: &mut [Value<'a>]) -> Result<(), JfrError> {
        let layout = &self.layouts[pool as usize];
        if let (Some((_, at)), Some(layout)) = (self.constants.find(pool, key), layout) {
            layout.read(&mut self.chunk.at(at), slots)?;
        }
        Ok(())
    }
}

/// The place of the class of the elements of an array, if they are no constants.
fn element_of(metadata: &Metadata<'_>, class: &str, field: &str) -> Option<usize> {
    let (_, class) = metadata.named(class)?;
    let mut fields = class.fields.iter();
    let field = fields.find(|candidate| candidate.name == field)?;
    if field.is_constant || !field.is_array {
        return None;
    }
    metadata.place(field.class)
}
