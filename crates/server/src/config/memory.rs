//! Section `memory`: how much memory the process may take and what for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::ByteSize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryConfig {
    /// Memory that the whole process may take. `auto` takes the limit of the control group, or
    /// 80 % of the machine's memory where there is none.
    pub limit: MemoryLimit,
    /// Share of the limit for the heads: profiles that are not in a block yet.
    pub heads_percent: u8,
    /// Share kept free for writing blocks, so that full heads can always be emptied.
    pub flush_percent: u8,
    /// Share for running queries.
    pub queries_percent: u8,
    /// Share for request bodies and the queues behind them.
    pub bodies_percent: u8,
    /// Share of the limit above which freed memory is given back to the kernel at once; below,
    /// some is kept for a while, which is faster.
    pub give_back_percent: u8,
    /// Share of the limit at which writes are refused until memory falls again, whatever the
    /// shares above say: the process's real memory is sampled for it.
    pub shed_percent: u8,
    /// Share of the limit above which the process's real memory may not be taken by queries: they
    /// wait for `querier.wait_max`, and are refused then.
    pub full_percent: u8,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            limit: MemoryLimit::Auto,
            heads_percent: 30,
            flush_percent: 15,
            queries_percent: 15,
            bodies_percent: 12,
            give_back_percent: 70,
            shed_percent: 90,
            full_percent: 95,
        }
    }
}

impl MemoryConfig {
    /// A percentage above 100 by its name, if there is one.
    pub fn above_all_of_it(&self) -> Option<(&'static str, u8)> {
        let percentages = [
            ("heads_percent", self.heads_percent),
            ("flush_percent", self.flush_percent),
            ("queries_percent", self.queries_percent),
            ("bodies_percent", self.bodies_percent),
            ("give_back_percent", self.give_back_percent),
            ("shed_percent", self.shed_percent),
            ("full_percent", self.full_percent),
        ];
        percentages.into_iter().find(|&(_, percent)| percent > 100)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    Auto,
    Bytes(ByteSize),
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
        }
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Number(u64),
            Text(String),
        }
        match Given::deserialize(d)? {
            Given::Number(bytes) => Ok(Self::Bytes(ByteSize(bytes))),
            Given::Text(text) if text == "auto" => Ok(Self::Auto),
            Given::Text(text) => ByteSize::from_str(&text)
                .map(Self::Bytes)
                .map_err(|e| serde::de::Error::custom(format!("{e}, or auto"))),
        }
    }
}
