//! The shares as metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Memory;

/// Reads the shares when metrics are asked for.
#[derive(Debug)]
pub(super) struct Figures(pub(super) Memory);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let memory = &self.0;
        let shares = [
            ("heads", &memory.heads),
            ("flush", &memory.flush),
            ("queries", &memory.queries),
            ("bodies", &memory.bodies),
        ];
        type Figure = fn(&scoria_model::ByteBudget) -> u64;
        let figures: [(&str, &str, Figure); 2] = [
            ("scoria_memory_used", "Bytes taken out of a share", |b| {
                b.used()
            }),
            ("scoria_memory_limit", "Bytes that a share has", |b| {
                b.limit()
            }),
        ];
        for (name, help, figure) in figures {
            let unit = Some(&Unit::Bytes);
            let mut family = encoder.encode_descriptor(
                name,
                help,
                unit,
                ConstGauge::new(0_u64).metric_type(),
            )?;
            for (share, budget) in shares {
                let gauge = ConstGauge::new(figure(budget));
                gauge.encode(family.encode_family(&[("share", share)])?)?;
            }
        }
        let shedding = ConstGauge::new(u64::from(memory.shedding()));
        let help = "1 while writes are refused because memory is nearly full";
        let metric = encoder.encode_descriptor(
            "scoria_memory_shedding",
            help,
            None,
            shedding.metric_type(),
        )?;
        shedding.encode(metric)
    }
}
