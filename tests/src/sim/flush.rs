//! The flusher of a simulated node: uploads blocks and drives the catalogue's committer, one job at
//! a time, as the role does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scoria_ingester::stream::{CommitOutcome, Generation, Input, StreamView};
use scoria_model::{NodeId, Seq, StreamId};
use scoria_storage::catalogue::committer::{
    Action, CommitRequest, Committer, Event as Reply, Outcome,
};
use scoria_storage::testing::Fault;
use scoria_storage::{CatalogueState, Op, Precondition, Txn, keys};

use super::Mutation;
use super::blocks;
use super::bucket::{GetAnswer, PutAnswer, PutKind};
use super::node::{EPOCH, Payload};
use super::world::{Event, Failed, Landing, Life, World};

/// How long a commit is tried.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a job that concerns the stream itself is tried again.
const RETRY: Duration = Duration::from_millis(700);

/// What the flusher is asked to do.
#[derive(Debug, Clone)]
pub(super) enum Job {
    OpenStream(StreamId),
    Upload((usize, Generation), (Seq, Seq)),
    Commit((usize, Generation), (Seq, Seq)),
    Close(usize, Seq),
}

/// Jobs, the one under way, and the process's view of the catalogue.
#[derive(Debug)]
pub(super) struct Flusher {
    jobs: VecDeque<Job>,
    running: Option<Running>,
    view: Arc<CatalogueState>,
    view_current_at: Duration,
}

#[derive(Debug)]
enum Running {
    /// What is left to put after the object that is under way.
    Uploading((usize, Generation), VecDeque<(String, Bytes)>),
    Committing {
        job: Job,
        nonce: u128,
        committer: Box<Committer>,
        action: Action,
    },
    /// Waits before the same job is tried again.
    Paused(Job),
}

impl Flusher {
    pub(super) fn new(view: Arc<CatalogueState>, now: Duration) -> Self {
        Self {
            jobs: VecDeque::new(),
            running: None,
            view,
            view_current_at: now,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.running.is_none()
    }

    pub(super) fn describe(&self) -> String {
        match &self.running {
            None => "flusher idle".to_owned(),
            Some(Running::Uploading(of, _)) => format!("uploading {of:?}"),
            Some(Running::Paused(job)) => format!("paused before {job:?}"),
            Some(Running::Committing { job, action, .. }) => {
                format!("committing {job:?}, at {action:?}")
            }
        }
    }
}

impl World {
    pub(super) fn add_job(&mut self, life: Life, job: Job) {
        if let Some(process) = self.process(life) {
            process.flusher.jobs.push_back(job);
            self.next_job(life);
        }
    }

    fn next_job(&mut self, life: Life) {
        let Some(process) = self.process(life) else {
            return;
        };
        if process.flusher.running.is_some() {
            return;
        }
        match process.flusher.jobs.pop_front() {
            Some(Job::Upload(of, range)) => self.upload(life, of, range),
            Some(job) => self.commit(life, job),
            None => {}
        }
    }

    fn end_job(&mut self, life: Life, slot: usize, input: Input<Payload>) {
        if let Some(process) = self.process(life) {
            process.flusher.running = None;
        }
        self.trace.line(self.now, format!("node{}", life.node), || {
            format!("slot {slot} is told {input:?}")
        });
        self.input(life, slot, input);
        self.next_job(life);
    }

    fn upload(&mut self, life: Life, of: (usize, Generation), range: (Seq, Seq)) {
        let id = u128::from(self.seeded.draw()) << 32 | u128::from(self.seeded.draw() >> 32);
        let style = self.block_style;
        let Some(process) = self.process(life) else {
            return;
        };
        let slot = &mut process.slots[of.0];
        let Some(live) = slot.generations.get_mut(&of.1) else {
            return self.broken(("Driver", format!("no heads for {of:?}")));
        };
        let built = match live.built.take() {
            Some(built) => built,
            None => match blocks::build(style, id, &live.heads, &slot.id, range) {
                Ok(built) => built,
                Err(what) => return self.broken(("D4", what)),
            },
        };
        let objects = built.objects.clone().into();
        live.built = Some(built);
        process.flusher.running = Some(Running::Uploading(of, objects));
        self.put_next_object(life);
    }

    /// Puts the next object of a block, or says that all are there.
    fn put_next_object(&mut self, life: Life) {
        let Some(process) = self.process(life) else {
            return;
        };
        let Some(Running::Uploading((slot, generation), objects)) = &mut process.flusher.running
        else {
            return;
        };
        let (slot, generation) = (*slot, *generation);
        match objects.pop_front() {
            Some((key, bytes)) => self.send_put(life, key, bytes, PutKind::Overwrite),
            None => self.end_job(life, slot, Input::Uploaded(generation)),
        }
    }

    fn commit(&mut self, life: Life, job: Job) {
        let nonce = u128::from(self.seeded.draw()) << 64 | u128::from(self.seeded.draw());
        let now = self.now;
        let txn = self.txn(life, &job);
        let Some(process) = self.process(life) else {
            return;
        };
        let flusher = &mut process.flusher;
        let request = CommitRequest {
            txn,
            nonce,
            view: Arc::clone(&flusher.view),
            view_current_at: flusher.view_current_at,
            deadline: now + COMMIT_TIMEOUT,
        };
        let (committer, action) = Committer::start(request, now);
        flusher.running = Some(Running::Committing {
            job,
            nonce,
            committer: Box::new(committer),
            action,
        });
        self.take_commit_action(life);
    }

    fn txn(&mut self, life: Life, job: &Job) -> Txn {
        let Some(process) = self.process(life) else {
            return Txn::new();
        };
        match job {
            Job::OpenStream(stream) => Txn::new()
                .require(Precondition::StreamAbsent(stream.clone()))
                .then(open_stream(stream)),
            Job::Upload((slot, generation), range) | Job::Commit((slot, generation), range) => {
                let slot = &process.slots[*slot];
                let live = slot.generations.get(generation);
                let built = live.and_then(|live| live.built.as_ref());
                let metas = built.map(|built| Arc::clone(&built.meta));
                Txn::flush(&slot.id, EPOCH, *range, metas)
            }
            Job::Close(slot, at) => {
                let stream = process.slots[*slot].id.clone();
                Txn::new()
                    .require(Precondition::StreamAt {
                        stream: stream.clone(),
                        epoch: EPOCH,
                        committed: *at,
                    })
                    .then(Op::CloseStream {
                        stream,
                        epoch: EPOCH,
                        at: *at,
                    })
            }
        }
    }

    fn send_put(&mut self, life: Life, key: String, bytes: Bytes, kind: PutKind) {
        let course = self.bucket.course_of_put(kind, self.now);
        self.trace.line(self.now, format!("node{}", life.node), || {
            format!("puts {key}: {:?}", course.fault)
        });
        if course.fault != Fault::None {
            self.figures.unclear_puts += 1;
        }
        let answer_to = match course.answer {
            Some(answer) => {
                self.at(course.answered, Event::PutAnswered(life, answer));
                None
            }
            None => Some((life, course.answered)),
        };
        if let Some(at) = course.lands {
            let landing = Landing {
                key,
                bytes,
                kind,
                answer_to,
            };
            self.at(at, Event::Land(landing));
        }
    }

    /// Waits as the committer asks, then sends what it wants.
    fn take_commit_action(&mut self, life: Life) {
        let Some(process) = self.process(life) else {
            return;
        };
        let Some(Running::Committing { action, .. }) = &process.flusher.running else {
            return;
        };
        match action {
            Action::Put { delay, .. } | Action::Get { delay, .. } => {
                let delay = *delay;
                self.after(delay, Event::CommitDelayOver(life));
            }
            Action::Finish(outcome) => {
                let outcome = outcome.clone();
                self.commit_finished(life, outcome);
            }
        }
    }

    pub(super) fn send_commit_request(&mut self, life: Life) {
        let Some(process) = self.process(life) else {
            return;
        };
        match &process.flusher.running {
            Some(Running::Paused(_)) => {
                if let Some(Running::Paused(job)) = process.flusher.running.take() {
                    self.refresh_view(life);
                    self.commit(life, job);
                }
            }
            Some(Running::Committing { action, .. }) => match action.clone() {
                Action::Put { version, entry, .. } => {
                    let key = keys::log_entry(version).to_string();
                    self.send_put(life, key, entry, PutKind::Create);
                }
                Action::Get { version, .. } => {
                    let key = keys::log_entry(version).to_string();
                    let (at, fault) = self.bucket.course_of_get(self.now);
                    let failed = match fault {
                        Fault::None => Failed::No,
                        _ => Failed::Yes,
                    };
                    self.at(at, Event::Look { life, key, failed });
                }
                Action::Finish(_) => {}
            },
            Some(Running::Uploading(..)) | None => {}
        }
    }

    pub(super) fn put_answered(&mut self, life: Life, answer: PutAnswer) {
        let mutation = self.mutation;
        let Some(process) = self.process(life) else {
            return;
        };
        match &process.flusher.running {
            Some(Running::Uploading((slot, generation), _)) => {
                let (slot, generation) = (*slot, *generation);
                if answer == PutAnswer::Unclear {
                    let reason = "the store gave no clear answer".to_owned();
                    let failed = Input::UploadFailed { generation, reason };
                    return self.end_job(life, slot, failed);
                }
                self.put_next_object(life);
            }
            Some(Running::Committing { .. }) => {
                let reply = match answer {
                    PutAnswer::Stored => Reply::PutStored,
                    PutAnswer::Exists => {
                        self.figures.lost_races += 1;
                        Reply::PutExists
                    }
                    PutAnswer::Unclear if mutation == Mutation::IgnoreLostReply => Reply::PutStored,
                    PutAnswer::Unclear => Reply::PutUnclear,
                };
                self.commit_replied(life, reply);
            }
            Some(Running::Paused(_)) | None => {}
        }
    }

    pub(super) fn get_answered(&mut self, life: Life, answer: GetAnswer) {
        let reply = match answer {
            GetAnswer::Found(bytes) => Reply::GetFound(bytes),
            GetAnswer::Absent => Reply::GetAbsent,
            GetAnswer::Failed => Reply::GetFailed,
        };
        self.commit_replied(life, reply);
    }

    fn commit_replied(&mut self, life: Life, reply: Reply) {
        let now = self.now;
        let Some(process) = self.process(life) else {
            return;
        };
        if let Some(Running::Committing {
            committer, action, ..
        }) = &mut process.flusher.running
        {
            *action = committer.on(reply, now);
            self.take_commit_action(life);
        }
    }

    fn commit_finished(&mut self, life: Life, outcome: Outcome) {
        let Some(process) = self.process(life) else {
            return;
        };
        let Some(Running::Committing {
            job,
            nonce,
            committer,
            ..
        }) = process.flusher.running.take()
        else {
            return;
        };
        let flusher = &mut process.flusher;
        flusher.view = Arc::clone(committer.view());
        flusher.view_current_at = committer.view_current_at();
        self.trace.line(self.now, format!("node{}", life.node), || {
            format!("{job:?} ended: {outcome:?}")
        });
        self.check_commit(life, nonce, &outcome);
        match outcome {
            Outcome::StaleView => {
                self.refresh_view(life);
                self.commit(life, job);
            }
            Outcome::Corrupt(corrupt) => self.broken(("C1", corrupt.to_string())),
            Outcome::TooLarge(error) => self.broken(("C1", error.to_string())),
            outcome => self.job_committed(life, job, outcome),
        }
    }

    /// What a node believes of the log must be what the log says (C1, C4).
    fn check_commit(&mut self, life: Life, nonce: u128, outcome: &Outcome) {
        let Some(process) = self.process(life) else {
            return;
        };
        let view = Arc::clone(&process.flusher.view);
        let stands = self.checker.version_of(nonce);
        match outcome {
            Outcome::Committed(version) if stands != Some(*version) => {
                let what = format!("a commit counts as version {}, which it is not", version.0);
                return self.broken(("C4", what));
            }
            Outcome::Conflict(_) | Outcome::NotWritten | Outcome::Refused(_)
                if stands.is_some() =>
            {
                let what = format!("a commit that stands in the log ended as {outcome:?}");
                return self.broken(("C4", what));
            }
            _ => {}
        }
        if self.checker.version(view.version()) != Some(&view) {
            let what = format!("a node's version {} is not the fold", view.version().0);
            self.broken(("C1", what));
        }
    }

    fn job_committed(&mut self, life: Life, job: Job, outcome: Outcome) {
        match job {
            Job::OpenStream(id) => {
                let known = self
                    .view(life)
                    .is_some_and(|view| view.stream(&id).is_some());
                if known {
                    self.stream_opened(life, id);
                    self.next_job(life);
                } else {
                    self.pause(life, Job::OpenStream(id));
                }
            }
            Job::Close(slot, at) => {
                let id = self.process(life).map(|p| p.slots[slot].id.clone());
                let finished = id
                    .zip(self.view(life))
                    .is_some_and(|(id, view)| view.stream(&id).is_some_and(|s| s.is_finished()));
                if finished {
                    self.stream_finished(life, slot);
                    self.next_job(life);
                } else {
                    self.pause(life, Job::Close(slot, at));
                }
            }
            Job::Upload((slot, generation), _) | Job::Commit((slot, generation), _) => {
                let outcome = self.outcome_for_stream(life, slot, &outcome);
                if outcome == CommitOutcome::Landed
                    && let Some(process) = self.process(life)
                    && let Some(live) = process.slots[slot].generations.get_mut(&generation)
                {
                    live.built = None;
                }
                let input = Input::CommitEnded {
                    generation,
                    outcome,
                };
                self.end_job(life, slot, input);
            }
        }
    }

    fn outcome_for_stream(&mut self, life: Life, slot: usize, outcome: &Outcome) -> CommitOutcome {
        if *outcome == Outcome::Unknown && self.seeded.chance(700) {
            self.refresh_view(life);
        }
        let id = self
            .process(life)
            .map(|process| process.slots[slot].id.clone());
        let stream = id
            .zip(self.view(life))
            .and_then(|(id, view)| view.stream(&id).cloned());
        let Some(stream) = stream else {
            return CommitOutcome::Failed("the catalogue does not know the stream".to_owned());
        };
        let view = StreamView {
            epoch: stream.epoch,
            committed: stream.committed,
        };
        match outcome {
            Outcome::Committed(_) => CommitOutcome::Landed,
            Outcome::Conflict(_) | Outcome::Refused(_) => CommitOutcome::Conflict(view),
            Outcome::Unknown => CommitOutcome::Unknown(view),
            other => CommitOutcome::Failed(format!("{other:?}")),
        }
    }

    pub(super) fn view(&mut self, life: Life) -> Option<Arc<CatalogueState>> {
        let process = self.process(life)?;
        Some(Arc::clone(&process.flusher.view))
    }

    /// Reads the log as it is now.
    fn refresh_view(&mut self, life: Life) {
        let newest = Arc::clone(self.checker.newest());
        let now = self.now;
        if let Some(process) = self.process(life) {
            process.flusher.view = newest;
            process.flusher.view_current_at = now;
        }
    }

    fn pause(&mut self, life: Life, job: Job) {
        if let Some(process) = self.process(life) {
            process.flusher.running = Some(Running::Paused(job));
            self.after(RETRY, Event::CommitDelayOver(life));
        }
    }
}

fn open_stream(stream: &StreamId) -> Op {
    let owner = NodeId(Arc::clone(&stream.node.0));
    Op::OpenStream {
        stream: stream.clone(),
        epoch: EPOCH,
        members: vec![owner.clone()],
        owner,
        quorum: 1,
    }
}
