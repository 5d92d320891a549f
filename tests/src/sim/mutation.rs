//! Deliberate mistakes in carrying out what the state machines say, to show that the checks see
//! them. Each perturbs the simulation's driver; the machines themselves stay as they are.

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// None.
    None,
    /// A batch counts as durable before it is written.
    AcknowledgeBeforeLog,
    /// After a failed append the next segment goes on with the dictionaries of the failed one.
    UseUnloggedDictionary,
    /// A segment is deleted when its flush starts.
    TruncateBeforeCommit,
    /// A commit without an answer counts as done.
    IgnoreLostReply,
    /// A new segment does not carry the retry keys of the ones before it.
    ForgetRetryKeys,
    /// What a failed append may have left in an older segment counts as well.
    CountFailedAppends,
}

impl Mutation {
    /// Every mistake.
    pub const ALL: [Self; 6] = [
        Self::AcknowledgeBeforeLog,
        Self::UseUnloggedDictionary,
        Self::TruncateBeforeCommit,
        Self::IgnoreLostReply,
        Self::ForgetRetryKeys,
        Self::CountFailedAppends,
    ];
}
