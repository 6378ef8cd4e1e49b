//! Transactions whose end was never written: ended by the producer that has taken their id.
//!
//! The model: all that is open is aborted, by a transaction of the same producer with a record in each of those partitions: readers
//! see neither. Its record in the progress topic, which goes first, is a *sign* of what of the shard's last transaction that takes
//! with it, so that a run which dies on the way leaves its successor to know. Then, where nothing of the last transaction is
//! visible, it was not delivered, and is sent again as always. Where something is, and something was aborted, the rest is sent
//! again with the marker: each result into the partition in which it was.
//!
//! How it fails: where the rest is to be sent and the checkpoint does not hold it, the start is refused: a person has to decide.

use super::chunk::Chunk;
use super::producer::{Again, MarkerRecord, Setback};
use super::progress::ProgressTopic;
use super::reach::{Rest, rest as rest_of};
use super::shard::ShardDelivery;
use super::undecided::{Found, LastMarker};
use super::waiting::{PAUSE, rest};
use crate::checkpoint::protocol::Marker;
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::{Shard, SinkContext};
use std::time::Instant;

/// What finds the chunk that a shard has sent with a marker.
pub(super) type FindChunk<'a> = dyn Fn(Shard, &Marker) -> ProcessorResult<Option<Chunk<'a>>> + 'a;

/// How one look at a shard has ended.
enum Step {
    Done,
    Again,
    /// Something of another shard or program stands before it.
    Hidden(String),
}

/// Ends what is open of shards that are fenced. It takes all of them, as one may stand before another. `results` is the topic of
/// the results now.
pub(super) fn repair(
    shards: &mut [ShardDelivery],
    find: &FindChunk<'_>,
    results: &str,
    progress: &ProgressTopic,
    context: &SinkContext,
) -> ProcessorResult<()> {
    let mut left: Vec<(&mut ShardDelivery, bool)> = shards.iter_mut().map(|shard| (shard, false)).collect();
    let begun = Instant::now();
    loop {
        let mut hidden = None;
        let mut still = Vec::new();
        for (shard, mut has_aborted) in left {
            loop {
                match shard.look_and_repair(find, results, &mut has_aborted, progress, context)? {
                    Step::Done => break,
                    Step::Again => {}
                    Step::Hidden(place) => {
                        hidden = Some(place);
                        still.push((shard, has_aborted));
                        break;
                    }
                }
            }
        }
        let Some(place) = hidden else { return Ok(()) };
        left = still;
        let reason = format!("{place}: another transaction is open, and ends by itself or by its time-out");
        if begun.elapsed() >= PAUSE {
            context.waiting(&reason);
        }
        rest(context, PAUSE / 5, &reason)?;
    }
}

impl ShardDelivery {
    fn look_and_repair(
        &mut self,
        find: &FindChunk<'_>,
        results: &str,
        has_aborted: &mut bool,
        progress: &ProgressTopic,
        context: &SinkContext,
    ) -> ProcessorResult<Step> {
        let result = match progress.look(self.key(), results, *has_aborted, context)? {
            Found::InOrder => return Ok(Step::Done),
            Found::Hidden(place) => return Ok(Step::Hidden(place)),
            Found::Open { undecided, topic, open } => {
                tracing::info!(
                    target: "sink", shard = %self.shard(), ?undecided, ?open,
                    "transactions are open, and the broker ends none of this shard any more: what is its own is aborted"
                );
                *has_aborted = true;
                let sign = MarkerRecord { topic: progress.name(), key: self.key().to_vec(), value: Vec::new() };
                self.producer().abort_with(&undecided, (&topic, &open), &sign, context)
            }
            Found::Aborted { last, aborted, is_committed } => match rest_of(&aborted, is_committed) {
                Rest::Nothing => return Ok(Step::Done),
                Rest::SendAgain(partitions) => {
                    tracing::warn!(
                        target: "sink", shard = %self.shard(), ?partitions,
                        "the broker has committed a transaction in some partitions and not in others: the rest is sent again"
                    );
                    self.send_rest(find, Again { reach: &last.reach, lost: &partitions }, &last, progress, context)?
                }
            },
        };
        let ended = match result {
            Ok(sent) => progress.is_ended(&sent.reach, sent.marker, context)?.map_err(Setback::Doubt),
            Err(setback) => Err(setback),
        };
        match ended {
            Ok(()) => Ok(Step::Again),
            Err(Setback::Ended(error)) => Err(error),
            Err(Setback::Refused(reason) | Setback::Doubt(reason)) => {
                context.failed_attempt(reason);
                self.fence(context)?;
                Ok(Step::Again)
            }
        }
    }

    fn send_rest(
        &mut self,
        find: &FindChunk<'_>,
        again: Again<'_>,
        last: &LastMarker,
        progress: &ProgressTopic,
        context: &SinkContext,
    ) -> ProcessorResult<Result<super::producer::Sent, Setback>> {
        let marker = progress.marker(last.offset, &last.value)?;
        let chunk = match again.lost.is_empty() {
            true => None,
            false => find(self.shard(), &marker)?,
        };
        let fits = chunk.as_ref().is_none_or(|chunk| chunk.records.len() == again.reach.partitions.len());
        if !again.lost.is_empty() && chunk.is_none() || !fits {
            return Err(ProcessorError::Refused(format!(
                "shard {}: the broker has committed a transaction in some partitions of topic `{}` and has lost its end in \
                 partitions {:?}, and the checkpoint does not hold these results any more: they are missing there",
                self.shard(),
                again.reach.topic,
                again.lost
            )));
        }
        let record = MarkerRecord { topic: progress.name(), key: self.key().to_vec(), value: last.value.clone() };
        Ok(self.producer().transact(chunk.as_ref(), Some(again), &record, context))
    }
}
