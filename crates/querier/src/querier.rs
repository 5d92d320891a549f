//! The questions a client can ask.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use scoria_model::{ByteBudget, Clock, Labels, Limits, NodeId, ProfileType, TenantId, Timestamp};
use scoria_proto::ingester::{self, IngesterClient};
use scoria_query::merge::{LabelsPartial, Partial, ProfilePartial, TreePartial};
use scoria_query::render::{self, Flamegraph, FlamegraphDiff, PprofOptions, SeriesPoints, TopRow};
use scoria_query::request::{
    Diff, GetProfileStats, LabelNames, LabelValues, NameForm, ProfileFormat, ProfileTypes,
    SelectMergeStacktraces, SelectSeries, Series, Stacktraces, strictest,
};
use scoria_query::scan::Scan;
use scoria_query::selector::is_plain_name;
use scoria_storage::{BlockStore, Catalogue};
use tonic::transport::Channel;

use crate::cache::Caches;
use crate::dataset::Reader;
use crate::error::{ErrorKind, QueryError};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::run::Outcome;
use crate::stats::QueryStats;

/// How the querier works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that decode, over all queries; at least 1. One core less than there are leaves
    /// room for ingest.
    pub threads: usize,
    /// Datasets of one query that are fetched and decoded at the same time; at least 1.
    pub datasets_in_flight: usize,
    /// Bytes of decoded footers, profile rows and symbols that are kept.
    pub decoded_cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: cores.saturating_sub(1).max(1),
            datasets_in_flight: 8,
            decoded_cache_bytes: 128 << 20,
        }
    }
}

type LookUp = dyn Fn(&TenantId) -> Arc<Limits> + Send + Sync;

/// Looks up the limits of a tenant.
#[derive(Clone)]
pub struct LimitsOf(Arc<LookUp>);

impl LimitsOf {
    pub fn new(look_up: impl Fn(&TenantId) -> Arc<Limits> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look_up))
    }

    /// The same limits for everybody.
    pub fn all(limits: Limits) -> Self {
        let limits = Arc::new(limits);
        Self::new(move |_| Arc::clone(&limits))
    }
}

impl fmt::Debug for LimitsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LimitsOf")
    }
}

/// What the querier works with.
#[derive(Debug, Clone)]
pub struct Components {
    pub catalogue: Catalogue,
    pub blocks: BlockStore,
    /// A channel to every ingester that may hold records which are in no block.
    pub ingesters: Vec<(NodeId, Channel)>,
    /// The share of memory for queries.
    pub memory: ByteBudget,
    pub limits: LimitsOf,
    /// Measures how long queries take.
    pub clock: Arc<dyn Clock>,
}

/// Answers questions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Querier(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) catalogue: Catalogue,
    pub(crate) ingesters: Vec<(NodeId, IngesterClient<Channel>)>,
    pub(crate) memory: ByteBudget,
    pub(crate) metrics: Metrics,
    pub(crate) reader: Reader,
    limits: LimitsOf,
    clock: Arc<dyn Clock>,
}

/// An answer and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    pub value: T,
    pub stats: QueryStats,
}

impl<T> Answer<T> {
    /// The answer to a range beyond the lookback.
    fn unasked(value: T) -> Self {
        Self {
            value,
            stats: QueryStats::default(),
        }
    }
}

/// Merged stacktraces in the form that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Merged {
    Flamegraph(Flamegraph),
    /// No bytes if there is no data.
    Tree(Vec<u8>),
    /// An empty text if there is no data.
    Dot(String),
    /// Bytes of a google.v1.Profile, not compressed; none if there is no data.
    Pprof(Vec<u8>),
}

/// Whether there is data, and from when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProfileStats {
    pub data_ingested: bool,
    /// Unix milliseconds; 0 without data.
    pub oldest_ms: i64,
    /// Unix milliseconds; 0 without data.
    pub newest_ms: i64,
}

impl Querier {
    pub fn new(settings: Settings, components: Components, registry: &mut Registry) -> Self {
        let reader = Reader {
            blocks: components.blocks,
            caches: Arc::new(Caches::new(settings.decoded_cache_bytes)),
            pool: Pool::new(settings.threads),
        };
        let ingesters = components.ingesters.into_iter();
        Self(Arc::new(Shared {
            settings,
            catalogue: components.catalogue,
            ingesters: ingesters
                .map(|(node, channel)| (node, ingester::client(channel)))
                .collect(),
            memory: components.memory,
            metrics: Metrics::new(registry),
            reader,
            limits: components.limits,
            clock: components.clock,
        }))
    }

    /// The limits of a query over these tenants.
    pub fn limits(&self, tenants: &[TenantId]) -> Limits {
        let all: Vec<Arc<Limits>> = tenants.iter().map(|t| (self.0.limits.0)(t)).collect();
        strictest(all.iter().map(AsRef::as_ref))
    }

    /// The profile types that there are, sorted by id.
    ///
    /// # Errors
    /// See [`ErrorKind`], here and for the methods below.
    pub async fn profile_types(
        &self,
        tenants: &[TenantId],
        request: &ProfileTypes,
        now: Timestamp,
    ) -> Result<Answer<Vec<ProfileType>>, QueryError> {
        let scan = request.check(&self.limits(tenants), now);
        let texts = self.texts("profile_types", tenants, scan?).await?;
        Ok(Answer {
            value: texts
                .value
                .iter()
                .filter_map(|id| id.parse().ok())
                .collect(),
            stats: texts.stats,
        })
    }

    /// Sorted label names.
    ///
    /// # Errors
    /// As above.
    pub async fn label_names(
        &self,
        tenants: &[TenantId],
        request: &LabelNames,
        now: Timestamp,
    ) -> Result<Answer<Vec<String>>, QueryError> {
        let scan = request.check(&self.limits(tenants), now);
        let mut answer = self.texts("label_names", tenants, scan?).await?;
        answer.value.retain(|name| is_shown(name, request.names));
        Ok(answer)
    }

    /// Sorted values of a label.
    ///
    /// # Errors
    /// As above.
    pub async fn label_values(
        &self,
        tenants: &[TenantId],
        request: &LabelValues,
        now: Timestamp,
    ) -> Result<Answer<Vec<String>>, QueryError> {
        let scan = request.check(&self.limits(tenants), now);
        self.texts("label_values", tenants, scan?).await
    }

    /// Sorted label sets.
    ///
    /// # Errors
    /// As above.
    pub async fn series(
        &self,
        tenants: &[TenantId],
        request: &Series,
        now: Timestamp,
    ) -> Result<Answer<Vec<Labels>>, QueryError> {
        let Some(scan) = request.check(&self.limits(tenants), now)? else {
            return Ok(Answer::unasked(Vec::new()));
        };
        let form = request.names;
        let (labels, stats) = self.labels("series", tenants, &scan).await?;
        let shown = labels.sets.iter().map(|set| {
            let pairs = set.iter().filter(|label| is_shown(&label.name, form));
            Labels::from_pairs(pairs.map(|label| (&label.name, &label.value)))
        });
        let value = match form {
            NameForm::Any => labels.sets.iter().cloned().collect(),
            NameForm::Plain => shown.collect::<BTreeSet<_>>().into_iter().collect(),
        };
        Ok(Answer { value, stats })
    }

    /// Merged stacktraces; SelectMergeProfile and SelectMergeSpanProfile as well, by the format
    /// that the request names.
    ///
    /// # Errors
    /// As above.
    pub async fn select_merge_stacktraces(
        &self,
        tenants: &[TenantId],
        request: &SelectMergeStacktraces,
        now: Timestamp,
    ) -> Result<Answer<Merged>, QueryError> {
        let Some(plan) = request.check(&self.limits(tenants), now)? else {
            return Ok(Answer::unasked(nothing(request.format)));
        };
        let outcome = self.ask("select_merge_stacktraces", tenants, &plan.scan);
        self.render(outcome.await?, move |partial| merged(&partial, &plan))
            .await
    }

    /// Points over time, the series with the largest sums first.
    ///
    /// # Errors
    /// As above.
    pub async fn select_series(
        &self,
        tenants: &[TenantId],
        request: &SelectSeries,
        now: Timestamp,
    ) -> Result<Answer<Vec<SeriesPoints>>, QueryError> {
        let Some(plan) = request.check(&self.limits(tenants), now)? else {
            return Ok(Answer::unasked(Vec::new()));
        };
        let outcome = self.ask("select_series", tenants, &plan.scan).await?;
        let render = move |partial| match partial {
            Partial::Series(series) => Ok(render::series(series, plan.aggregation, plan.limit)),
            other => Err(unexpected(&other)),
        };
        self.render(outcome, render).await
    }

    /// Two flame graphs in one.
    ///
    /// # Errors
    /// As above.
    pub async fn diff(
        &self,
        tenants: &[TenantId],
        request: &Diff,
        now: Timestamp,
    ) -> Result<Answer<FlamegraphDiff>, QueryError> {
        let plan = request.check(&self.limits(tenants), now)?;
        let left = self.side(tenants, plan.left.as_ref()).await?;
        let right = self.side(tenants, plan.right.as_ref()).await?;
        let mut stats = left.stats;
        stats.merge(&right.stats);
        let work = move || {
            render::diff(&left.value, &right.value, plan.max_nodes)
                .map_err(|e| QueryError::new(ErrorKind::Invalid, e.to_string()))
        };
        let value = self.0.reader.pool.run(work).await??;
        Ok(Answer { value, stats })
    }

    /// The uncut tree of a question, for those who draw it themselves.
    ///
    /// # Errors
    /// As above.
    pub async fn tree(
        &self,
        tenants: &[TenantId],
        request: &SelectMergeStacktraces,
        now: Timestamp,
    ) -> Result<Answer<TreePartial>, QueryError> {
        let request = SelectMergeStacktraces {
            format: ProfileFormat::Tree,
            ..request.clone()
        };
        let plan = request.check(&self.limits(tenants), now)?;
        self.side(tenants, plan.as_ref().map(|plan| &plan.scan))
            .await
    }

    /// Functions by what they take, exact whatever `max_nodes` is.
    ///
    /// # Errors
    /// As above.
    pub async fn top(
        &self,
        tenants: &[TenantId],
        request: &SelectMergeStacktraces,
        now: Timestamp,
    ) -> Result<Answer<Vec<TopRow>>, QueryError> {
        let tree = self.tree(tenants, request, now).await?;
        let value = self.0.reader.pool.run(move || render::top(&tree.value));
        Ok(Answer {
            value: value.await?,
            stats: tree.stats,
        })
    }

    /// Whether there is data, and from when to when. Takes exactly one tenant.
    ///
    /// # Errors
    /// As above.
    pub async fn get_profile_stats(
        &self,
        tenants: &[TenantId],
        request: &GetProfileStats,
    ) -> Result<Answer<ProfileStats>, QueryError> {
        if tenants.len() != 1 {
            let what = format!(
                "this request takes one tenant, but {} were given",
                tenants.len()
            );
            return Err(QueryError::new(ErrorKind::Invalid, what));
        }
        let outcome = self
            .ask("get_profile_stats", tenants, &request.scan())
            .await?;
        let Partial::Stats(found) = outcome.partial else {
            return Err(unexpected(&outcome.partial));
        };
        let value = match found.times {
            None => ProfileStats::default(),
            Some((oldest, newest)) => ProfileStats {
                data_ingested: true,
                oldest_ms: oldest.millis(),
                newest_ms: newest.millis(),
            },
        };
        Ok(Answer {
            value,
            stats: outcome.stats,
        })
    }

    async fn ask(
        &self,
        kind: &'static str,
        tenants: &[TenantId],
        scan: &Scan,
    ) -> Result<Outcome, QueryError> {
        let mut tenants = tenants.to_vec();
        tenants.sort();
        tenants.dedup();
        let started = self.0.clock.monotonic();
        let result = self.0.run(&tenants, scan).await;
        let took: Duration = self.0.clock.monotonic().saturating_sub(started);
        self.0.metrics.ended(kind, took, result.as_ref().err());
        result
    }

    async fn labels(
        &self,
        kind: &'static str,
        tenants: &[TenantId],
        scan: &Scan,
    ) -> Result<(LabelsPartial, QueryStats), QueryError> {
        let outcome = self.ask(kind, tenants, scan).await?;
        match outcome.partial {
            Partial::Labels(labels) => Ok((labels, outcome.stats)),
            other => Err(unexpected(&other)),
        }
    }

    async fn texts(
        &self,
        kind: &'static str,
        tenants: &[TenantId],
        scan: Option<Scan>,
    ) -> Result<Answer<Vec<String>>, QueryError> {
        let Some(scan) = scan else {
            return Ok(Answer::unasked(Vec::new()));
        };
        let (labels, stats) = self.labels(kind, tenants, &scan).await?;
        let value = labels.texts.iter().map(|text| text.to_string()).collect();
        Ok(Answer { value, stats })
    }

    /// The tree of one side; empty if its range is beyond the lookback.
    async fn side(
        &self,
        tenants: &[TenantId],
        scan: Option<&Scan>,
    ) -> Result<Answer<TreePartial>, QueryError> {
        let Some(scan) = scan else {
            return Ok(Answer::unasked(TreePartial::default()));
        };
        let outcome = self.ask("tree", tenants, scan).await?;
        match outcome.partial {
            Partial::Tree(value) => Ok(Answer {
                value,
                stats: outcome.stats,
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the answer of a partial on the pool, with the query's memory still taken.
    async fn render<T: Send + 'static>(
        &self,
        outcome: Outcome,
        render: impl FnOnce(Partial) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<Answer<T>, QueryError> {
        let Outcome {
            partial,
            stats,
            permit,
        } = outcome;
        let work = move || {
            let _permit = permit;
            render(partial)
        };
        let value = self.0.reader.pool.run(work).await??;
        Ok(Answer { value, stats })
    }
}

fn is_shown(name: &str, form: NameForm) -> bool {
    form == NameForm::Any || is_plain_name(name)
}

fn unexpected(partial: &Partial) -> QueryError {
    let what = format!("a partial of kind {} answers this query", partial.kind());
    QueryError::new(ErrorKind::Internal, what)
}

/// The answer without data.
fn nothing(format: ProfileFormat) -> Merged {
    match format {
        ProfileFormat::Flamegraph => {
            Merged::Flamegraph(render::flamegraph(&TreePartial::default(), 0))
        }
        ProfileFormat::Tree => Merged::Tree(Vec::new()),
        ProfileFormat::Dot => Merged::Dot(String::new()),
        ProfileFormat::Pprof => Merged::Pprof(Vec::new()),
    }
}

fn merged(partial: &Partial, plan: &Stacktraces) -> Result<Merged, QueryError> {
    let (tree, profile): (Option<&TreePartial>, Option<&ProfilePartial>) = match partial {
        Partial::Tree(tree) => (Some(tree), None),
        Partial::Profile(profile) => (None, Some(profile)),
        other => return Err(unexpected(other)),
    };
    let merged = match (plan.format, tree, profile) {
        (ProfileFormat::Flamegraph, Some(tree), _) => {
            let cut = render::truncate(tree, plan.max_nodes);
            Merged::Flamegraph(render::flamegraph(&cut, plan.max_nodes_asked))
        }
        (ProfileFormat::Tree, Some(tree), _) => {
            Merged::Tree(render::tree_bytes(tree, plan.max_nodes))
        }
        (ProfileFormat::Dot, Some(tree), _) => {
            Merged::Dot(render::dot(tree, &plan.profile_type, plan.max_nodes_asked))
        }
        (ProfileFormat::Pprof, _, Some(profile)) => Merged::Pprof(render::pprof(
            profile,
            &PprofOptions {
                kind: &plan.profile_type,
                end_ms: plan.end_ms,
                max_nodes: plan.max_nodes,
                go_pgo: plan.go_pgo,
            },
        )),
        _ => return Err(unexpected(partial)),
    };
    Ok(merged)
}
