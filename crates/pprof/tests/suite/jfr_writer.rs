//! Writes small recordings: as much of the format as a JVM and async-profiler use.

/// Ids of classes that every chunk here has.
pub(crate) mod class {
    pub(crate) const BOOLEAN: u64 = 4;
    pub(crate) const FLOAT: u64 = 6;
    pub(crate) const DOUBLE: u64 = 7;
    pub(crate) const BYTE: u64 = 8;
    pub(crate) const INT: u64 = 10;
    pub(crate) const LONG: u64 = 11;
    pub(crate) const STRING: u64 = 20;
    pub(crate) const CLASS: u64 = 21;
    pub(crate) const FRAME_TYPE: u64 = 24;
    pub(crate) const THREAD_STATE: u64 = 25;
    pub(crate) const STACK_TRACE: u64 = 26;
    pub(crate) const STACK_FRAME: u64 = 27;
    pub(crate) const METHOD: u64 = 28;
    pub(crate) const SYMBOL: u64 = 30;
    pub(crate) const EXECUTION_SAMPLE: u64 = 101;
    pub(crate) const IN_NEW_TLAB: u64 = 102;
    pub(crate) const MONITOR_ENTER: u64 = 103;
    pub(crate) const SETTING: u64 = 104;
    pub(crate) const WALL_CLOCK_SAMPLE: u64 = 105;
}

/// Keys of the thread states.
pub(crate) const RUNNABLE: u64 = 1;
pub(crate) const SLEEPING: u64 = 2;

/// What stands in a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Integer(u64),
    Byte(u8),
    Fixed(&'a [u8]),
    Text(&'a str),
    /// Of an array of integers.
    Integers(&'a [u64]),
}

/// How texts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Latin1,
    Utf16,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    name: &'static str,
    class: u64,
    is_constant: bool,
    is_array: bool,
}

pub(crate) const fn plain(name: &'static str, class: u64) -> Field {
    Field {
        name,
        class,
        is_constant: false,
        is_array: false,
    }
}

pub(crate) const fn constant(name: &'static str, class: u64) -> Field {
    Field {
        is_constant: true,
        ..plain(name, class)
    }
}

pub(crate) const fn array(name: &'static str, class: u64) -> Field {
    Field {
        is_array: true,
        ..plain(name, class)
    }
}

/// One chunk that is being written.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) encoding: Encoding,
    pub(crate) ticks_per_second: u64,
    classes: Vec<Class>,
    symbols: Vec<String>,
    /// Class and name.
    methods: Vec<(String, String)>,
    stacks: Vec<Vec<(u64, u32)>>,
    events: Vec<u8>,
}

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    for _ in 0..8 {
        if value < 0x80 {
            return out.push(value as u8);
        }
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

type Class = (u64, &'static str, Vec<Field>);

fn types() -> Vec<Class> {
    use class::*;
    vec![
        (BOOLEAN, "boolean", vec![]),
        (FLOAT, "float", vec![]),
        (DOUBLE, "double", vec![]),
        (BYTE, "byte", vec![]),
        (INT, "int", vec![]),
        (LONG, "long", vec![]),
        (STRING, "java.lang.String", vec![]),
        (CLASS, "java.lang.Class", vec![constant("name", SYMBOL)]),
        (
            FRAME_TYPE,
            "jdk.types.FrameType",
            vec![plain("description", STRING)],
        ),
        (
            THREAD_STATE,
            "jdk.types.ThreadState",
            vec![plain("name", STRING)],
        ),
        (
            STACK_TRACE,
            "jdk.types.StackTrace",
            vec![plain("truncated", BOOLEAN), array("frames", STACK_FRAME)],
        ),
        (
            STACK_FRAME,
            "jdk.types.StackFrame",
            vec![
                constant("method", METHOD),
                plain("lineNumber", INT),
                plain("bytecodeIndex", INT),
                constant("type", FRAME_TYPE),
            ],
        ),
        (
            METHOD,
            "jdk.types.Method",
            vec![constant("type", CLASS), constant("name", SYMBOL)],
        ),
        (SYMBOL, "jdk.types.Symbol", vec![plain("string", STRING)]),
    ]
}

fn events() -> Vec<Class> {
    use class::*;
    let sample = || {
        vec![
            plain("startTime", LONG),
            constant("stackTrace", STACK_TRACE),
            constant("state", THREAD_STATE),
            plain("contextId", LONG),
            plain("spanId", LONG),
            plain("spanName", LONG),
        ]
    };
    let mut wall = sample();
    wall.push(plain("samples", INT));
    vec![
        (EXECUTION_SAMPLE, "jdk.ExecutionSample", sample()),
        (WALL_CLOCK_SAMPLE, "profiler.WallClockSample", wall),
        (
            IN_NEW_TLAB,
            "jdk.ObjectAllocationInNewTLAB",
            vec![
                plain("startTime", LONG),
                constant("stackTrace", STACK_TRACE),
                plain("allocationSize", LONG),
                plain("tlabSize", LONG),
            ],
        ),
        (
            MONITOR_ENTER,
            "jdk.JavaMonitorEnter",
            vec![
                plain("startTime", LONG),
                plain("duration", LONG),
                constant("stackTrace", STACK_TRACE),
            ],
        ),
        (
            SETTING,
            "jdk.ActiveSetting",
            vec![plain("name", STRING), plain("value", STRING)],
        ),
    ]
}

impl Chunk {
    pub(crate) fn new() -> Self {
        let classes = [types(), events()].concat();
        Self {
            encoding: Encoding::Utf8,
            ticks_per_second: 1_000_000_000,
            classes,
            symbols: Vec::new(),
            methods: Vec::new(),
            stacks: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Another class, or other fields of a known one.
    pub(crate) fn class(&mut self, id: u64, name: &'static str, fields: Vec<Field>) {
        self.classes.retain(|(known, ..)| *known != id);
        self.classes.push((id, name, fields));
    }

    /// The key of a stacktrace: (class, method, line) from the leaf.
    pub(crate) fn stack(&mut self, frames: &[(&str, &str, u32)]) -> u64 {
        let frames = frames
            .iter()
            .map(|(class, method, line)| {
                let pair = ((*class).to_owned(), (*method).to_owned());
                self.symbol(class);
                self.symbol(method);
                let known = self.methods.iter().position(|known| *known == pair);
                let method = known.unwrap_or_else(|| {
                    self.methods.push(pair);
                    self.methods.len() - 1
                });
                (method as u64 + 1, *line)
            })
            .collect();
        self.stacks.push(frames);
        self.stacks.len() as u64
    }

    fn symbol(&mut self, text: &str) -> u64 {
        let known = self.symbols.iter().position(|known| known == text);
        let symbol = known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        });
        symbol as u64 + 1
    }

    pub(crate) fn event(&mut self, class: u64, fields: &[Value<'_>]) {
        let mut body = Vec::new();
        varint(&mut body, class);
        for field in fields {
            match *field {
                Value::Integer(value) => varint(&mut body, value),
                Value::Byte(value) => body.push(value),
                Value::Fixed(bytes) => body.extend_from_slice(bytes),
                Value::Text(text) => put_text(&mut body, text, self.encoding),
                Value::Integers(values) => {
                    varint(&mut body, values.len() as u64);
                    values.iter().for_each(|&value| varint(&mut body, value));
                }
            }
        }
        put_event(&mut self.events, &body);
    }

    /// A sample of the processor or the wall clock, and how many samples it is if it says so.
    pub(crate) fn sample(
        &mut self,
        class: u64,
        stack: u64,
        state: u64,
        tag: [u64; 3],
        n: Option<u64>,
    ) {
        let numbers = [7, stack, state, tag[0], tag[1], tag[2]];
        let fields = numbers.into_iter().chain(n).map(Value::Integer);
        self.event(class, &fields.collect::<Vec<_>>());
    }

    /// The whole chunk: constants behind the events that name them, in two checkpoints, and the
    /// metadata last.
    pub(crate) fn finish(&self) -> Vec<u8> {
        const HEADER_BYTES: usize = 68;
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(&self.events);
        let first = self.checkpoint(&[class::SYMBOL, class::CLASS, class::METHOD]);
        put_event(&mut out, &first);
        let constants_at = out.len() as u64;
        let second = self.checkpoint(&[class::STACK_TRACE, class::THREAD_STATE]);
        put_event(&mut out, &second);
        let metadata_at = out.len() as u64;
        put_event(&mut out, &self.metadata());
        let mut header = b"FLR\0\x00\x02\x00\x00".to_vec();
        let size = out.len() as u64;
        let numbers = [
            size,
            constants_at,
            metadata_at,
            1,
            2,
            3,
            self.ticks_per_second,
        ];
        for number in numbers {
            header.extend_from_slice(&number.to_be_bytes());
        }
        header.extend_from_slice(&[0, 0, 0, 1]);
        out[..HEADER_BYTES].copy_from_slice(&header);
        out
    }

    fn checkpoint(&self, pools: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [1, 5, 0, 0] {
            varint(&mut out, number);
        }
        out.push(0);
        varint(&mut out, pools.len() as u64);
        let symbol = |text: &str| {
            let at = self.symbols.iter().position(|known| known == text);
            at.map_or(0, |at| at as u64 + 1)
        };
        for &pool in pools {
            let mut entries: Vec<Vec<u8>> = Vec::new();
            let mut entry = |key: u64, fields: &mut dyn FnMut(&mut Vec<u8>)| {
                let mut bytes = Vec::new();
                varint(&mut bytes, key);
                fields(&mut bytes);
                entries.push(bytes);
            };
            match pool {
                class::SYMBOL => {
                    for (at, text) in self.symbols.iter().enumerate() {
                        entry(at as u64 + 1, &mut |out| put_text(out, text, self.encoding));
                    }
                }
                class::CLASS => {
                    for (at, _) in self.symbols.iter().enumerate() {
                        entry(at as u64 + 1, &mut |out| varint(out, at as u64 + 1));
                    }
                }
                class::METHOD => {
                    for (at, (class, name)) in self.methods.iter().enumerate() {
                        entry(at as u64 + 1, &mut |out| {
                            varint(out, symbol(class));
                            varint(out, symbol(name));
                        });
                    }
                }
                class::STACK_TRACE => {
                    for (at, frames) in self.stacks.iter().enumerate() {
                        entry(at as u64 + 1, &mut |out| {
                            out.push(0);
                            varint(out, frames.len() as u64);
                            for &(method, line) in frames {
                                varint(out, method);
                                for number in [line, line % 400, 1] {
                                    varint(out, u64::from(number));
                                }
                            }
                        });
                    }
                }
                _ => {
                    for (key, state) in [(RUNNABLE, "STATE_RUNNABLE"), (SLEEPING, "STATE_SLEEPING")]
                    {
                        entry(key, &mut |out| put_text(out, state, self.encoding));
                    }
                }
            }
            varint(&mut out, pool);
            varint(&mut out, entries.len() as u64);
            out.extend(entries.into_iter().flatten());
        }
        out
    }

    fn metadata(&self) -> Vec<u8> {
        let mut texts: Vec<String> = Vec::new();
        let mut tree = Vec::new();
        let mut name = |out: &mut Vec<u8>, text: &str| {
            let known = texts.iter().position(|known| known == text);
            let at = known.unwrap_or_else(|| {
                texts.push(text.to_owned());
                texts.len() - 1
            });
            varint(out, at as u64);
        };
        name(&mut tree, "root");
        varint(&mut tree, 0);
        varint(&mut tree, 1);
        name(&mut tree, "metadata");
        varint(&mut tree, 0);
        varint(&mut tree, self.classes.len() as u64);
        for (id, class, fields) in &self.classes {
            name(&mut tree, "class");
            varint(&mut tree, 2);
            for text in ["id", &id.to_string(), "name", class] {
                name(&mut tree, text);
            }
            varint(&mut tree, fields.len() as u64);
            for field in fields {
                let class = field.class.to_string();
                let mut attributes = vec!["name", field.name, "class", &class];
                if field.is_constant {
                    attributes.extend(["constantPool", "true"]);
                }
                if field.is_array {
                    attributes.extend(["dimension", "1"]);
                }
                name(&mut tree, "field");
                varint(&mut tree, attributes.len() as u64 / 2);
                for text in attributes {
                    name(&mut tree, text);
                }
                varint(&mut tree, 0);
            }
        }
        let mut out = Vec::new();
        for number in [0, 5, 0, 1, texts.len() as u64] {
            varint(&mut out, number);
        }
        for text in &texts {
            put_text(&mut out, text, Encoding::Utf8);
        }
        out.extend(tree);
        out
    }
}

/// An event whose size takes four bytes, as JVMs write it.
fn put_event(out: &mut Vec<u8>, body: &[u8]) {
    let size = body.len() + 4;
    let padded = |shift: usize| (size >> shift) as u8 | 0x80;
    out.extend_from_slice(&[padded(0), padded(7), padded(14), (size >> 21) as u8]);
    out.extend_from_slice(body);
}

fn put_text(out: &mut Vec<u8>, text: &str, encoding: Encoding) {
    match encoding {
        _ if text.is_empty() => out.push(1),
        Encoding::Utf8 => {
            out.push(3);
            varint(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        Encoding::Latin1 => {
            out.push(5);
            varint(out, text.chars().count() as u64);
            out.extend(text.chars().map(|c| c as u8));
        }
        Encoding::Utf16 => {
            out.push(4);
            varint(out, text.encode_utf16().count() as u64);
            for unit in text.encode_utf16() {
                varint(out, u64::from(unit));
            }
        }
    }
}
