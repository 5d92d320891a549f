//! For tests: an object store with seeded faults and clocks that tests hold.

mod clock;
mod fault_plan;
mod faulty_parts;
mod faulty_store;
mod metas;
mod overwriting_store;

pub use clock::{HeldClock, TokioClock};
pub use fault_plan::{Fault, FaultPlan, FaultRates, Seeded};
pub use faulty_store::FaultyStore;
pub use metas::{bare_meta, merged_meta, meta_of, stream_id};
pub use overwriting_store::OverwritingStore;
