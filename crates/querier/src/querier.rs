//! The questions a client can ask.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use prometheus_client::registry::Registry;
use scoria_model::{ByteBudget, Clock, Labels, Limits, NodeId, ProfileType, TenantId, Timestamp};
use scoria_proto::Connection;
use scoria_proto::ingester::{self, IngesterClient};
use scoria_query::merge::{LabelsPartial, Partial, TreePartial};
use scoria_query::render::{
    self, FlamegraphDiff, FunctionTableDiff, HeatmapSeries, SeriesPoints, TopRow, cost,
};
use scoria_query::request::{
    AnalyzeQuery, Diff, FunctionsDiff, GetProfileStats, LabelNames, LabelValues, NameForm,
    ProfileFormat, ProfileTypes, SelectHeatmap, SelectMergeStacktraces, SelectSeries, Series,
    Sides, strictest,
};
use scoria_query::scan::Scan;
use scoria_storage::Catalogue;

use crate::admission::{Admission, Holding};
use crate::background::{Background, Progress};
use crate::cache::Caches;
use crate::dataset::{Going, Reader, StopOnDrop};
use crate::error::{ErrorKind, QueryError};
use crate::merged::{Merged, is_shown, merged, nothing, unexpected};
use crate::metrics::Metrics;
use crate::plan::PlanCost;
use crate::pool::Pool;
use crate::run::{Lack, Outcome, Question};
use crate::settings::{Components, LimitsOf, Settings};
use crate::stats::QueryStats;
use crate::why_empty::why_empty;

/// Answers questions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Querier(Arc<Shared>, Mode);

/// How questions are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// From all data, or not at all.
    #[default]
    Whole,
    /// From what can be read; [`QueryStats::missing`] names the rest.
    Partial,
    /// Not at all: answers are empty, and [`QueryStats::plan`] is what they would cost.
    Plan,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) catalogue: Catalogue,
    pub(crate) ingesters: Vec<(NodeId, IngesterClient<Connection>)>,
    pub(crate) memory: ByteBudget,
    pub(crate) admission: Admission,
    background: Background,
    pub(crate) metrics: Metrics,
    pub(crate) reader: Reader,
    limits: LimitsOf,
    pub(crate) clock: Arc<dyn Clock>,
}

/// An answer and what it took.
#[derive(Debug)]
pub struct Answer<T> {
    pub value: T,
    pub stats: QueryStats,
    /// Of the answer, up to its last encoding.
    pub holding: Holding,
}

impl<T> Answer<T> {
    /// The answer to a range beyond the lookback.
    fn unasked(value: T) -> Self {
        Self {
            value,
            stats: QueryStats::default(),
            holding: Holding::default(),
        }
    }

    /// The same, shown in another way.
    pub fn map<U>(self, show: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            value: show(self.value),
            stats: self.stats,
            holding: self.holding,
        }
    }
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
        let metrics = Metrics::new(registry);
        let (decoded, results) = (settings.decoded_cache_bytes, settings.result_cache_bytes);
        let reader = Reader {
            blocks: components.blocks,
            caches: Arc::new(Caches::new(decoded, results, &metrics)),
            pool: Pool::new(Arc::clone(&settings.threads)),
        };
        let ingesters = components.ingesters.into_iter();
        let shared = Shared {
            catalogue: components.catalogue,
            ingesters: ingesters
                .map(|(node, channel)| (node, ingester::client(channel)))
                .collect(),
            admission: Admission::new(
                settings.admission.clone(),
                components.memory.clone(),
                metrics.clone(),
            ),
            background: Background::new(settings.background.clone(), Arc::clone(&components.clock)),
            memory: components.memory,
            metrics,
            reader,
            limits: components.limits,
            clock: components.clock,
            settings,
        };
        Self(Arc::new(shared), Mode::Whole)
    }

    /// The same querier in another mode.
    pub fn in_mode(&self, mode: Mode) -> Self {
        Self(Arc::clone(&self.0), mode)
    }

    /// The limits of a query over these tenants.
    pub fn limits(&self, tenants: &[TenantId]) -> Limits {
        let all: Vec<Arc<Limits>> = tenants.iter().map(|t| self.0.limits.of(t)).collect();
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
        let Some(scan) = request.check(&self.limits(tenants), now)? else {
            return Ok(Answer::unasked(Vec::new()));
        };
        let mut ids = self.labels("profile_types", tenants, &scan).await?;
        ids.holding.grow(cost::profile_types(&ids.value.texts))?;
        Ok(ids.map(|ids| ids.texts.iter().filter_map(|id| id.parse().ok()).collect()))
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
        let labels = self.labels("series", tenants, &scan).await?;
        Ok(labels.map(|labels| shown_sets(labels.sets, request.names)))
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
        let ask = self.ask("select_merge_stacktraces", tenants, &plan.scan);
        let mut outcome = ask.await?;
        if outcome.stats.plan.is_none() {
            let found = (&outcome.partial, outcome.stats.spans);
            outcome.stats.why_empty = why_empty(request, &plan, found);
        }
        self.render(outcome, move |partial, take| merged(partial, &plan, take))
            .await
    }

    /// Starts merging stacktraces in the background; an id to ask for the answer with.
    ///
    /// # Errors
    /// As above, for what can be said of the request, and [`ErrorKind::LimitExceeded`] if the
    /// tenant has as many in the background as it may have.
    pub fn start_select_merge_stacktraces(
        &self,
        tenants: &[TenantId],
        request: &SelectMergeStacktraces,
        now: Timestamp,
    ) -> Result<String, QueryError> {
        let limits = self.limits(tenants);
        request.check(&limits, now)?;
        let id = self.0.background.start(tenants, &limits)?;
        let (querier, request) = (self.clone(), request.clone());
        let tenants = tenants.to_vec();
        tokio::spawn(async move {
            let query = querier.select_merge_stacktraces(&tenants, &request, now);
            // Whatever becomes of it, the id does not stay with a query that runs no more.
            let result = AssertUnwindSafe(query).catch_unwind().await;
            let result = result
                .unwrap_or_else(|_| Err(QueryError::new(ErrorKind::Internal, "the query failed")));
            querier.0.background.ended(id, result);
        });
        Ok(id.to_string())
    }

    /// Where a query in the background stands; a copy of its answer once there is one, which is
    /// accounted for like any other.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if these tenants have none with this id.
    pub fn poll(
        &self,
        tenants: &[TenantId],
        id: &str,
    ) -> Result<Progress<Answer<Merged>>, QueryError> {
        let kept = match self.0.background.poll(tenants, id)? {
            Progress::Answered(kept) => kept,
            Progress::Running => return Ok(Progress::Running),
            Progress::Failed(error) => return Ok(Progress::Failed(error)),
        };
        let tenant = tenants.first().cloned();
        let tenant = tenant.unwrap_or_else(TenantId::anonymous);
        let most = self.limits(tenants).max_query_memory_bytes;
        let mut held = self.0.admission.without_scan(tenant, most);
        held.grow(kept.value.bytes_written())?;
        Ok(Progress::Answered(Answer {
            value: kept.value.clone(),
            stats: kept.stats.clone(),
            holding: held.into(),
        }))
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
        let render = move |partial, take: Take<'_>| match partial {
            Partial::Series(series) => {
                take(cost::series(&series))?;
                Ok(render::series(series, plan.aggregation, plan.limit))
            }
            other => Err(unexpected(&other)),
        };
        self.render(outcome, render).await
    }

    /// How single values are spread over time, the series with the most of them first.
    ///
    /// # Errors
    /// As above.
    pub async fn select_heatmap(
        &self,
        tenants: &[TenantId],
        request: &SelectHeatmap,
        now: Timestamp,
    ) -> Result<Answer<Vec<HeatmapSeries>>, QueryError> {
        let Some(cells) = request.check(&self.limits(tenants), now)? else {
            return Ok(Answer::unasked(Vec::new()));
        };
        let outcome = self.ask("select_heatmap", tenants, &cells.scan).await?;
        let render = move |partial, take: Take<'_>| match partial {
            Partial::Values(values) => {
                take(cost::heatmap(&values, &cells))?;
                Ok(render::heatmap(values, &cells))
            }
            other => Err(unexpected(&other)),
        };
        self.render(outcome, render).await
    }

    /// What a question about stacktraces would cost: a range and a selector, which may name a
    /// profile type; an empty one selects everything.
    ///
    /// # Errors
    /// As above.
    pub fn analyze(
        &self,
        tenants: &[TenantId],
        request: &AnalyzeQuery,
        now: Timestamp,
    ) -> Result<Answer<PlanCost>, QueryError> {
        let Some(scan) = request.check(&self.limits(tenants), now)? else {
            return Ok(Answer::unasked(PlanCost::default()));
        };
        let Outcome { stats, held, .. } = self.0.plan(tenants, &scan)?;
        Ok(Answer {
            value: stats.plan.unwrap_or_default(),
            stats,
            holding: held.into(),
        })
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
        self.draw_sides(tenants, plan, drawn_diff).await
    }

    /// The functions of two profiles in one table, exact whatever `max_nodes` is.
    ///
    /// # Errors
    /// As above.
    pub async fn functions_diff(
        &self,
        tenants: &[TenantId],
        request: &FunctionsDiff,
        now: Timestamp,
    ) -> Result<Answer<FunctionTableDiff>, QueryError> {
        let plan = request.check(&self.limits(tenants), now)?;
        self.draw_sides(tenants, plan, |(left, right), max_rows, take| {
            take(cost::top(left) + cost::top(right))?;
            Ok(render::functions_diff(left, right, max_rows))
        })
        .await
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
        let scan = plan.as_ref().map(|plan| &plan.scan);
        self.side(tenants, scan).await
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
        let request = SelectMergeStacktraces {
            format: ProfileFormat::Tree,
            ..request.clone()
        };
        let plan = request.check(&self.limits(tenants), now)?;
        let scan = plan.as_ref().map(|plan| &plan.scan);
        let tree = self.side(tenants, scan).await?;
        self.draw((tree.stats, tree.holding), move |take| {
            take(cost::top(&tree.value))?;
            Ok(render::top(&tree.value))
        })
        .await
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
            holding: outcome.held.into(),
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
        let lack = match self.1 {
            Mode::Whole => Lack::Refused,
            Mode::Partial => Lack::Allowed,
            Mode::Plan => return self.0.plan(&tenants, scan),
        };
        let question = Question {
            tenants: &tenants,
            scan,
            limits: &self.limits(&tenants),
            lack,
        };
        let result = self.0.run_with_means(question).await;
        let took: Duration = self.0.clock.monotonic().saturating_sub(started);
        self.0.metrics.ended(kind, took, result.as_ref().err());
        result
    }

    async fn labels(
        &self,
        kind: &'static str,
        tenants: &[TenantId],
        scan: &Scan,
    ) -> Result<Answer<LabelsPartial>, QueryError> {
        let outcome = self.ask(kind, tenants, scan).await?;
        let Outcome {
            partial,
            stats,
            mut held,
        } = outcome;
        match partial {
            Partial::Labels(value) => {
                held.grow(cost::labels(&value))?;
                let holding = held.into();
                Ok(Answer {
                    value,
                    stats,
                    holding,
                })
            }
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
        let labels = self.labels(kind, tenants, &scan).await?;
        Ok(labels.map(|labels| labels.texts.iter().map(str::to_owned).collect()))
    }

    /// The tree of one side, with its memory; empty if its range is beyond the lookback.
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
                holding: outcome.held.into(),
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes one answer of two sides; the memory of both is held until it is made.
    async fn draw_sides<T: Send + 'static>(
        &self,
        tenants: &[TenantId],
        sides: Sides,
        draw: impl FnOnce((&TreePartial, &TreePartial), usize, Take<'_>) -> Result<T, QueryError>
        + Send
        + 'static,
    ) -> Result<Answer<T>, QueryError> {
        let left = self.side(tenants, sides.left.as_ref()).await?;
        let right = self.side(tenants, sides.right.as_ref()).await?;
        let (mut stats, mut holding) = (left.stats, left.holding);
        stats.merge(&right.stats);
        holding.join(right.holding);
        self.draw((stats, holding), move |take| {
            draw((&left.value, &right.value), sides.max_nodes, take)
        })
        .await
    }

    /// Makes the answer of a partial on the pool.
    async fn render<T: Send + 'static>(
        &self,
        outcome: Outcome,
        render: impl FnOnce(Partial, Take<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<Answer<T>, QueryError> {
        let Outcome {
            partial,
            stats,
            held,
        } = outcome;
        self.draw((stats, held.into()), move |take| render(partial, take))
            .await
    }

    /// Makes an answer on the pool, with the query's memory still taken, and more as it needs it.
    async fn draw<T: Send + 'static>(
        &self,
        (stats, mut holding): (QueryStats, Holding),
        draw: impl FnOnce(Take<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<Answer<T>, QueryError> {
        let is_plan = stats.plan.is_some();
        let going = Going::default();
        let _stop = StopOnDrop(going.clone());
        let work = move || {
            let take = &mut |bytes: u64| {
                going.check()?;
                // What shows no data needs no leave.
                match is_plan {
                    true => Ok(()),
                    false => holding.grow(bytes),
                }
            };
            let value = draw(take);
            (value, holding)
        };
        let (value, holding) = self.0.reader.pool.run(work).await?;
        Ok(Answer {
            value: value?,
            stats,
            holding,
        })
    }
}

/// Asks for memory that drawing takes, before it does.
type Take<'a> = &'a mut dyn FnMut(u64) -> Result<(), QueryError>;

fn drawn_diff(
    (left, right): (&TreePartial, &TreePartial),
    max_nodes: usize,
    take: Take<'_>,
) -> Result<FlamegraphDiff, QueryError> {
    let negative = |e: render::NegativeValue| QueryError::new(ErrorKind::Invalid, e.to_string());
    take(cost::cutting(left, max_nodes) + cost::cutting(right, max_nodes))?;
    let left = render::side(left, max_nodes).map_err(negative)?;
    let right = render::side(right, max_nodes).map_err(negative)?;
    take(cost::diff(&left, &right))?;
    Ok(render::diff_of_sides(&left, &right, max_nodes))
}

/// Label sets without the names that the client does not understand, each once.
fn shown_sets(sets: BTreeSet<Labels>, form: NameForm) -> Vec<Labels> {
    let hidden = |set: &Labels| set.iter().any(|label| !is_shown(&label.name, form));
    if !sets.iter().any(hidden) {
        return sets.into_iter().collect();
    }
    let shown = sets.iter().map(|set| {
        let labels = set.iter().filter(|label| is_shown(&label.name, form));
        labels.cloned().collect::<Labels>()
    });
    shown.collect::<BTreeSet<_>>().into_iter().collect()
}
