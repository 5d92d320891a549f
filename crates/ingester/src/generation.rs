//! A generation in memory: its heads, and which records they hold.
//!
//! # Invariants
//! - A record's parts become visible together: heads change under one lock.
//! - Records come in order, and nothing is added to a sealed generation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use scoria_block::{BlockMeta, EncodedBlock};
use scoria_model::{ByteBudget, Permit, Seq, StreamId, TenantId};

use crate::head::{HeadSnapshot, Heads, SampleCounts};
use crate::record;
use crate::stream::Generation;

/// The heads of one generation with what a flush has made of them.
#[derive(Debug)]
pub(crate) struct LiveGeneration {
    pub(crate) stream: Arc<StreamId>,
    pub(crate) number: Generation,
    /// The last visible record.
    to: AtomicU64,
    heads: Mutex<Heads>,
    memory: Mutex<Permit>,
    blocks: Mutex<Blocks>,
}

/// How far a flush has come.
#[derive(Debug, Default)]
pub(crate) enum Blocks {
    #[default]
    None,
    /// Built, with the memory that they take; kept so that a failed upload need not build again.
    Built(Vec<Arc<EncodedBlock>>, Arc<Permit>),
    Uploaded(Vec<Arc<BlockMeta>>),
}

impl LiveGeneration {
    /// A generation whose first record comes after `from`.
    pub(crate) fn new(
        stream: Arc<StreamId>,
        number: Generation,
        from: Seq,
        budget: &ByteBudget,
    ) -> Self {
        Self {
            stream,
            number,
            to: AtomicU64::new(from.0),
            heads: Mutex::default(),
            memory: Mutex::new(budget.nothing()),
            blocks: Mutex::default(),
        }
    }

    pub(crate) fn to(&self) -> Seq {
        Seq(self.to.load(Ordering::Acquire))
    }

    /// Makes a record visible.
    pub(crate) fn apply(&self, seq: Seq, push: &record::Push) {
        let mut heads = self.heads.lock();
        heads.append(push, seq);
        self.to.store(seq.0, Ordering::Release);
    }

    /// Says how far a recovered generation reaches when its last records hold nothing.
    pub(crate) fn reach(&self, to: Seq) {
        self.to.fetch_max(to.0, Ordering::AcqRel);
    }

    /// Memory of the heads.
    pub(crate) fn bytes(&self) -> u64 {
        self.heads.lock().bytes()
    }

    /// Samples of the heads.
    pub(crate) fn samples(&self) -> SampleCounts {
        self.heads.lock().samples()
    }

    /// Makes the permit what the heads, and `beside` them the log's dictionaries, take: more than
    /// the share has if profiles took more than was guessed, so that no others are admitted.
    pub(crate) fn account(&self, beside: u64) {
        self.memory.lock().set(self.bytes() + beside);
    }

    /// Snapshots of all datasets in order of tenant and service, all of the same moment.
    pub(crate) fn snapshot(&self) -> Vec<HeadSnapshot> {
        self.heads
            .lock()
            .iter()
            .map(|head| head.snapshot())
            .collect()
    }

    /// Snapshots of the datasets of some tenants, all of the same moment.
    pub(crate) fn snapshot_of(&self, tenants: &[TenantId]) -> Vec<HeadSnapshot> {
        let heads = self.heads.lock();
        let wanted = tenants.iter().flat_map(|tenant| heads.of_tenant(tenant));
        wanted.map(|head| head.snapshot()).collect()
    }

    pub(crate) fn set_blocks(&self, blocks: Blocks) {
        *self.blocks.lock() = blocks;
    }

    /// What a flush has built and not yet uploaded.
    pub(crate) fn built(&self) -> Option<(Vec<Arc<EncodedBlock>>, Arc<Permit>)> {
        match &*self.blocks.lock() {
            Blocks::Built(blocks, permit) => Some((blocks.clone(), Arc::clone(permit))),
            _ => None,
        }
    }

    /// What a flush has uploaded.
    pub(crate) fn uploaded(&self) -> Vec<Arc<BlockMeta>> {
        match &*self.blocks.lock() {
            Blocks::Uploaded(metas) => metas.clone(),
            _ => Vec::new(),
        }
    }
}
